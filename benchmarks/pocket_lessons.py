"""What the base of `pocket` is pretrained on: fresh pictures, and answers in none of the formats of the eight tasks."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from PIL import Image

from cotbal.recipes.pocket import charts, scenes, signs
from cotbal.recipes.pocket.chat import chat
from cotbal.recipes.pocket.drawings import BACKGROUNDS, KIND_OF, NAMES

Box = tuple[int, int, int, int]
LABELS: tuple[str, ...] = (*NAMES, *string.ascii_uppercase, *charts.BAR_COLOURS)
GROUNDS: tuple[str, ...] = tuple(BACKGROUNDS)


@dataclass(frozen=True)
class Shown:
    """A picture with everything that is on it: (label, box) of each drawing, letter or bar, and the ground."""

    picture: Image.Image
    items: tuple[tuple[str, Box], ...]
    ground: str


@dataclass(frozen=True)
class Lesson:
    """One pretraining conversation; `picture` is None for the text-only ones."""

    picture: Image.Image | None
    prompt: str
    answer: str


def random_shown(rng: Random) -> Shown:
    """A scene (half of the time), a sign or a chart, with its labelled boxes: the lesson of the vision tower."""
    return rng.choices((_scene, _sign, _chart), (50, 35, 15))[0](rng)


def _scene(rng: Random) -> Shown:
    scene = scenes.random_scene(rng)
    items = tuple((placed.name, placed.box) for placed in scene.objects)
    return Shown(scenes.render_scene(scene), items, scene.ground)


def _sign(rng: Random) -> Shown:
    sign = signs.random_sign(rng, (random_word(rng),))
    items = list(zip(sign.word, sign.letters, strict=True))
    if sign.ornament is not None:
        items.append((sign.ornament.name, sign.ornament.box))
    return Shown(signs.render_sign(sign), tuple(items), sign.ground)


def _chart(rng: Random) -> Shown:
    chart = charts.random_chart(rng)
    items = tuple((bar.colour, box) for bar, box in zip(chart.bars, charts.bar_boxes(chart), strict=True))
    return Shown(charts.render_chart(chart), items, "white")


def random_word(rng: Random) -> str:
    """Letters without a meaning (mostly), so that reading is learnt letter by letter, or a word of the signs."""
    if rng.random() < 0.3:
        return rng.choice(signs.WORDS)
    return "".join(rng.choice(string.ascii_uppercase) for _ in range(rng.randint(2, 5)))


def random_lesson(rng: Random) -> Lesson:
    """One lesson for the language model, drawn by `SHARES`."""
    return rng.choices([lesson for lesson, _ in SHARES], [share for _, share in SHARES])[0](rng)


def tags(rng: Random) -> Lesson:
    """Names only, from left to right."""
    scene = scenes.random_scene(rng)
    return _of(scene, "tags", ", ".join(placed.name for placed in scene.objects))


def short_caption(rng: Random) -> Lesson:
    """A loose sentence without sizes and places."""
    scene = scenes.random_scene(rng)
    names = [f"a {placed.name}" for placed in rng.sample(scene.objects, len(scene.objects))]
    return _of(scene, "caption", f"{' and '.join(names)} in {scene.ground}")


def layout(rng: Random) -> Lesson:
    """Every drawing with its corners."""
    scene = scenes.random_scene(rng)
    parts = [f"{placed.name} " + "-".join(map(str, placed.box)) for placed in scene.objects]
    return _of(scene, "layout", "; ".join(parts))


def at_point(rng: Random) -> Lesson:
    """The drawing under a point."""
    scene = scenes.random_scene(rng)
    placed = rng.choice(scene.objects)
    x, y = (round(middle) for middle in placed.center)
    return _of(scene, f"at {x},{y}", placed.name)


def pair(rng: Random) -> Lesson:
    """The direction from one named drawing to another."""
    scene = scenes.random_scene(rng)
    first, second = rng.sample(scene.objects, 2)
    return _of(scene, f"{first.name} to {second.name}", scenes.direction(first, second))


def ground(rng: Random) -> Lesson:
    """The colour behind the drawings."""
    scene = scenes.random_scene(rng)
    return _of(scene, "color", scene.ground)


def kinds(rng: Random) -> Lesson:
    """The kind of every drawing, from left to right."""
    scene = scenes.random_scene(rng)
    return _of(scene, "kinds", ", ".join(f"{placed.name} {KIND_OF[placed.name]}" for placed in scene.objects))


def letters(rng: Random) -> Lesson:
    """The letters of a sign, one by one."""
    sign = signs.random_sign(rng, (random_word(rng),))
    return Lesson(signs.render_sign(sign), "letters", "-".join(sign.word))


def bars(rng: Random) -> Lesson:
    """Colour and height of every bar, from left to right."""
    chart = charts.random_chart(rng)
    parts = [f"{bar.colour} {bar.tens}" for bar in chart.bars]
    return Lesson(charts.render_chart(chart), "bars", ", ".join(parts))


def talk(rng: Random) -> Lesson:
    """Text only."""
    asked = chat(rng)
    return Lesson(None, asked.question, asked.answer)


def _of(scene: scenes.Scene, prompt: str, answer: str) -> Lesson:
    return Lesson(scenes.render_scene(scene), prompt, answer)


SHARES: tuple[tuple[Callable[[Random], Lesson], float], ...] = (
    (tags, 8), (short_caption, 8), (layout, 20), (at_point, 12), (pair, 16), (ground, 2),
    (kinds, 6), (letters, 14), (bars, 10), (talk, 4),
)  # fmt: skip
