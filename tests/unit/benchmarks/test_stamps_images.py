"""Scenes, charts and splits of the benchmark `stamps`: what is written in a record is what the
image shows.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from cotbal.benchmarks.stamps import charts, tasks
from cotbal.benchmarks.stamps.scenes import SIDE, Placed, box_text, fitted, hundredths, paste
from cotbal.benchmarks.stamps.things import SPLITS, Thing, split_by_name


def thing_on_disk(
    directory: Path, name: str, category: str, size: tuple[int, int] = (60, 40)
) -> Thing:
    """A black rectangle in the middle of a transparent image."""
    image = Image.new("RGBA", (size[0] + 50, size[1] + 30), (0, 0, 0, 0))
    image.paste(Image.new("RGBA", size, (0, 0, 0, 255)), (20, 10))
    path = directory / f"{name}.png"
    image.save(path)
    return Thing(name, category, f"A {name}.", category, path, True)


def visible_box(scene: Image.Image) -> tuple[int, int, int, int]:
    dark = np.argwhere(np.asarray(scene.convert("L")) < 128)
    (top, left), (bottom, right) = dark.min(0), dark.max(0) + 1
    return int(left), int(top), int(right), int(bottom)


@pytest.mark.parametrize("seed", range(5))
def test_boxes_are_exact(tmp_path: Path, seed: int) -> None:
    thing = thing_on_disk(tmp_path, f"brick{seed}", "tool")
    for cell, corner in {"top left": (0, 0), "bottom right": (1, 1)}.items():
        scene = Image.new("RGB", (SIDE, SIDE), "white")
        placed = paste(scene, thing, cell, random.Random(seed))
        assert placed.box == hundredths(visible_box(scene))
        centre = (placed.box[0] + placed.box[2]) / 2, (placed.box[1] + placed.box[3]) / 2
        assert [int(value > 50) for value in centre] == list(corner)


def test_boxes_are_written_as_whole_numbers_below_100() -> None:
    assert box_text(hundredths((0, SIDE // 2, SIDE // 4, SIDE))) == "[0,50,25,99]"


def test_fitting_keeps_the_shape() -> None:
    assert fitted(Image.new("RGB", (200, 100)), 50).size == (50, 25)


def test_splits_share_no_name() -> None:
    things = [
        Thing(f"{c}{i % 20}", c, "", c, Path(f"{c}{i}"), True)
        for c in ("bird", "fish")
        for i in range(40)
    ]
    by_split = split_by_name(things, seed=3)
    names = [{thing.name for thing in by_split[split]} for split in SPLITS]
    assert sum(len(part) for part in names) == len(set.union(*names)) == 40
    assert sum(len(by_split[split]) for split in SPLITS) == len(things)
    for part in names:
        assert {name.rstrip("0123456789") for name in part} == {"bird", "fish"}
    assert split_by_name(things, seed=4)["train"] != by_split["train"]


def test_a_name_of_two_categories_has_one_home() -> None:
    things = [
        Thing(f"n{i}", category, "", "", Path("x"), True)
        for i in range(30)
        for category in ("bird", "mammal")
    ]
    by_split = split_by_name(things, seed=0)
    homes = [{thing.name for thing in by_split[split]} for split in SPLITS]
    assert not homes[0] & homes[1]
    assert not homes[0] & homes[2]
    assert not homes[1] & homes[2]


CHART = charts.Chart(
    "life expectancy", ("A", "B", "C"), (44.9, 71.0, 55.0), ("red", "blue", "green"), 100.0
)


def test_chart_answers_follow_from_the_numbers() -> None:
    said = dict(charts.ask(CHART, random.Random(seed)) for seed in range(200))
    assert said["Which colour has the highest life expectancy?"] == "blue"
    assert said["Which colour has the lowest life expectancy?"] == "red"
    assert said["What is the life expectancy of A, the red bar, to the nearest ten?"] == "40"
    assert said["What is the life expectancy of C, the green bar, to the nearest ten?"] == "60"


def test_bars_are_as_high_as_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    font = ImageFont.load_default()
    monkeypatch.setattr(charts.ImageFont, "truetype", lambda *_: font)
    pixels = np.asarray(charts.draw_chart(CHART, Path("font"), random.Random(0))).astype(int)
    for value, colour in zip(CHART.values, CHART.colours, strict=True):
        rgb = [int(charts.COLOURS[colour][at : at + 2], 16) for at in (1, 3, 5)]
        rows = np.unique(np.argwhere(np.abs(pixels - rgb).sum(-1) < 8)[:, 0])
        assert len(rows) == pytest.approx((SIDE - 32) * value / 100, abs=2)


def test_drawn_numbers_can_be_distinguished() -> None:
    table = {str(n): 10.0 + n for n in range(60)}
    for seed in range(20):
        values = sorted(charts.draw_numbers([("x", table)], random.Random(seed)).values)
        assert min(np.diff(values)) >= charts.MIN_GAP * values[-1]


def test_no_table_is_in_two_splits() -> None:
    tables: list[charts.Table] = [(f"m{n}", {}) for n in range(12)]
    by_split = charts.split_tables(tables)
    assert sorted(name for part in by_split.values() for name, _ in part) == sorted(
        name for name, _ in tables
    )


@pytest.mark.parametrize(
    ("cells", "first"), [(("top left", "top right"), "bird"), (("bottom left", "top left"), "fish")]
)
def test_relation_answers(
    monkeypatch: pytest.MonkeyPatch, cells: tuple[str, str], first: str
) -> None:
    """`first` is the category that is left or above."""
    one, other = (Thing(c, c, "", c, Path(c), True) for c in ("bird", "fish"))
    placed = [Placed(one, (0, 0, 1, 1), cells[0]), Placed(other, (0, 0, 1, 1), cells[1])]
    monkeypatch.setattr(tasks, "two_things", lambda *_: (None, placed))
    world = tasks.World({"test": []}, [], {"test": []}, {}, [], [])
    said = {
        e.question: e.answer
        for e in (tasks.relation_vqa(world, "test", random.Random(n)) for n in range(80))
    }
    last = {"bird": "fish", "fish": "bird"}[first]
    for question, answer in said.items():
        near = (
            "right of" in question
            or "below" in question
            or question.endswith(("on the right?", "at the bottom?"))
        )
        assert answer == (last if near else first)
    assert len(said) == 4
