"""Lengths by which rows are grouped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from cotbal.data.batches.collate import Collator, Row
from cotbal.data.batches.estimated_lengths import EstimatedLengths, rounded
from cotbal.data.batches.processors import load_processor
from cotbal.data.batches.questions import collator_for
from cotbal.data.files import default_cache
from cotbal.data.reading import images
from cotbal.data.reading.records import open_records
from cotbal.recipe.recipe import load_recipe
from helpers.tiny_families import FAMILIES, build
from helpers.tiny_vlm import mixture

SIZES = [(32, 32), (250, 90), (56, 300), (300, 300)]


def rows_of(file: Path) -> list[Row]:
    return [Row(record, "a", None) for record in open_records(file, default_cache())]


def made(collator: Collator, rows: Sequence[Row]) -> list[int]:
    return [collator.training([row])["input_ids"].shape[1] for row in rows]


def test_a_row_counts_what_it_becomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all images become equally many tokens, none is opened."""
    recipe = load_recipe(mixture(tmp_path, {"color": 1, "paint": 9}))
    processor = load_processor(recipe.checkpoint, False)
    collator = collator_for(processor, recipe.images, 120)
    rows = [row for task in recipe.mixture.tasks for row in rows_of(task.train)[:6]]
    expected = made(collator, rows)
    monkeypatch.setattr(images, "opened", None)
    assert [*map(EstimatedLengths(collator), rows)] == expected
    assert len(set(expected)) > 1
    short = collator_for(processor, recipe.images, 45)
    assert max(map(EstimatedLengths(short), rows)) == 45 < max(expected)


@pytest.fixture(scope="module", params=["qwen2_vl", "paligemma"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records with one image each, of different sizes, one of text, and one without its file."""
    root = tmp_path_factory.mktemp("sizes")
    build(FAMILIES[request.param], root / "base")
    names = [f"{n}.png" for n in range(len(SIZES))]
    for name, size in zip(names, SIZES, strict=True):
        Image.new("RGB", size, "red").save(root / name)
    lines = [
        {
            "id": str(n),
            **({"image": name} if name else {}),
            "conversations": [
                {"from": "human", "value": ("<image>\n" if name else "") + "what is it?"},
                {"from": "gpt", "value": "a tree"},
            ],
        }
        for n, name in enumerate([*names, None, "missing.png"])
    ]
    (root / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def test_images_count_what_a_blank_one_of_about_their_size_becomes(family: Path) -> None:
    collator = collator_for(load_processor(str(family / "base"), False), family, 2048)
    rows = rows_of(family / "train.jsonl")
    expected = made(collator, rows[:-1])
    estimated = [*map(EstimatedLengths(collator), rows)]
    for estimate, length in zip(estimated, expected, strict=False):
        assert length <= estimate <= 1.3 * length + 2
    assert sorted(range(5), key=lambda i: estimated[i]) == sorted(
        range(5), key=lambda i: expected[i]
    )


def test_an_estimate_depends_on_the_row_alone(family: Path) -> None:
    collator = collator_for(load_processor(str(family / "base"), False), family, 2048)
    rows = rows_of(family / "train.jsonl")
    forward = [*map(EstimatedLengths(collator), rows)]
    assert [*map(EstimatedLengths(collator), rows[::-1])] == forward[::-1]


def test_sizes_are_rounded_up_by_less_than_a_tenth() -> None:
    for side in (1, 14, 336, 640, 4000):
        width, height = rounded((side, 2 * side))
        assert side <= width <= 1.1 * side + 1
        assert height >= 2 * side
    assert rounded((640, 480)) == rounded((633, 479))
