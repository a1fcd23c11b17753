"""What `pocket` draws: every box, count, relation and value must follow from the image."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from PIL import Image

from cotbal.benchmarks.pocket.charts import (
    BAR_COLOURS,
    Chart,
    bar_boxes,
    gapminder_rows,
    random_chart,
    render_chart,
)
from cotbal.benchmarks.pocket.drawings import DRAWINGS, KIND_OF, NAMES, Placed, drawing
from cotbal.benchmarks.pocket.scenes import Scene, direction, random_scene, render_scene
from cotbal.benchmarks.pocket.signs import INKS, WORDS, random_sign, render_sign

SEEDS = range(25)


def differs(image: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    """Where an image is not of one colour, [48, 48]."""
    return (np.asarray(image).astype(int) != np.array(color)).any(axis=-1)


@pytest.mark.parametrize("name", NAMES)
def test_every_drawing_has_colour_and_fills_its_crop(name: str) -> None:
    sprite = drawing(name, 22)
    assert max(sprite.size) == 22
    alpha = np.asarray(sprite.getchannel("A"))
    assert (alpha > 200).mean() > 0.15
    assert alpha[0].max() > 0
    assert alpha[-1].max() > 0
    assert alpha[:, 0].max() > 0
    assert alpha[:, -1].max() > 0


def test_drawings_have_six_kinds_of_eight_and_one_kind_each() -> None:
    assert [len(names) for names in DRAWINGS.values()] == [8] * 6
    assert len(NAMES) == len(set(NAMES)) == len(KIND_OF) == 48


@pytest.mark.parametrize("seed", SEEDS)
def test_boxes_of_a_scene_hold_all_that_is_drawn(seed: int) -> None:
    scene = random_scene(Random(seed))
    image = render_scene(scene)
    empty = image.getpixel((0, 0))
    assert isinstance(empty, tuple)
    drawn = differs(image, empty[:3])
    for placed in scene.objects:
        left, top, right, bottom = placed.box
        assert drawn[top:bottom, left:right].any(axis=1).mean() > 0.9
        drawn[top:bottom, left:right] = False
    assert not drawn.any()


@pytest.mark.parametrize("seed", SEEDS)
def test_objects_of_a_scene_are_different_and_ordered_from_left_to_right(seed: int) -> None:
    scene = random_scene(Random(seed))
    assert 2 <= len(scene.objects) <= 3
    assert len({placed.name for placed in scene.objects}) == len(scene.objects)
    assert list(scene.objects) == sorted(scene.objects, key=lambda placed: placed.center[0])
    for left, top, right, bottom, big in ((*placed.box, placed.big) for placed in scene.objects):
        assert (max(right - left, bottom - top) >= 18) == big


def test_direction_is_that_of_the_larger_distance() -> None:
    middle = Placed("frog", (20, 20, 28, 28), big=False)
    for box, word in (
        ((0, 22, 8, 30), "left of"),
        ((40, 16, 48, 24), "right of"),
        ((18, 0, 26, 8), "above"),
        ((24, 40, 32, 48), "below"),
    ):
        assert direction(Placed("bell", box, big=False), middle) == word


@pytest.mark.parametrize("seed", SEEDS)
def test_bars_are_as_high_as_their_values(seed: int) -> None:
    chart = random_chart(Random(seed))
    image = np.asarray(render_chart(chart))
    for bar, (left, top, right, bottom) in zip(chart.bars, bar_boxes(chart), strict=True):
        column = (image[:, (left + right) // 2] == np.array(BAR_COLOURS[bar.colour])).all(axis=-1)
        assert column.sum() == bottom - top
        assert abs(column.sum() / 42 * 100 - bar.value) < 1.5


@pytest.mark.parametrize("seed", SEEDS)
def test_bars_are_real_numbers_that_can_be_distinguished(seed: int) -> None:
    chart = random_chart(Random(seed))
    assert len({bar.tens for bar in chart.bars}) == len({bar.colour for bar in chart.bars}) == 4
    assert all(found_in_table(chart, bar.country, bar.value) for bar in chart.bars)
    assert all(abs(bar.value - bar.tens) <= 3.5 for bar in chart.bars)


def found_in_table(chart: Chart, country: str, value: float) -> bool:
    column, unit = {
        "life expectancy": ("lifeExp", 1),
        "population": ("pop", 1e6),
        "income": ("gdpPercap", 100),
    }[chart.measure]
    return any(
        row["country"] == country
        and int(row["year"]) == chart.year
        and float(row[column]) / unit == value
        for row in gapminder_rows()
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_letters_of_a_sign_lie_in_their_boxes(seed: int) -> None:
    sign = random_sign(Random(seed))
    image = np.asarray(render_sign(sign)).astype(int)
    ink = np.abs(image - np.array(INKS[sign.ink])).sum(axis=-1) < 90
    assert len(sign.letters) == len(sign.word)
    for left, top, right, bottom in sign.letters:
        assert 0 < left < right <= 48
        assert 0 < top < bottom <= 48
        assert ink[top:bottom, left:right].sum() >= 4
    assert list(sign.letters) == sorted(sign.letters)


def test_words_are_three_to_five_capitals_without_repetition() -> None:
    assert len(WORDS) == len(set(WORDS)) > 150
    assert all(3 <= len(word) <= 5 and word.isalpha() and word.isupper() for word in WORDS)


def test_the_same_seed_gives_the_same_scene_and_another_seed_another() -> None:
    assert random_scene(Random("a")) == random_scene(Random("a"))
    scenes: set[Scene] = {random_scene(Random(str(seed))) for seed in SEEDS}
    assert len(scenes) == len(SEEDS)
