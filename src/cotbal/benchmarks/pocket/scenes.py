"""Scenes: two or three drawings on a coloured ground, and what can be said about where they are."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from PIL import Image

from cotbal.benchmarks.pocket.drawings import (
    BACKGROUNDS,
    DRAWINGS,
    KIND_OF,
    NAMES,
    SIDE,
    Placed,
    drawing,
)

BIG = (18, 22)
SMALL = (11, 14)
# Two drawings count as "left of" or "above" each other only when one direction clearly wins.
CLEAR = 1.25
MARGIN = 1


@dataclass(frozen=True)
class Scene:
    """What an image shows: the ground's colour name, its brightness shift, and the drawings from
    left to right.
    """

    ground: str
    shade: int
    objects: tuple[Placed, ...]


def random_scene(rng: Random) -> Scene:
    """Two or three different drawings that do not touch, every pair clearly side by side or one
    above the other.
    """
    ground = rng.choice(list(BACKGROUNDS))
    shade = rng.randint(-5, 5)
    while True:
        objects = _place(rng, _names(rng, rng.choice((2, 3, 3, 3))))
        if objects is not None:
            return Scene(ground, shade, tuple(sorted(objects, key=lambda placed: placed.center)))


def render_scene(scene: Scene) -> Image.Image:
    """The image of a scene, RGB, 48 x 48."""
    image = Image.new("RGB", (SIDE, SIDE), shaded(scene.ground, scene.shade))
    for placed in scene.objects:
        paste(image, placed)
    return image


def paste(image: Image.Image, placed: Placed) -> None:
    """Paste a drawing into its box."""
    left, top, right, bottom = placed.box
    sprite = drawing(placed.name, max(right - left, bottom - top))
    image.paste(sprite, (left, top), sprite)


def direction(first: Placed, second: Placed) -> str:
    """Where `first` lies as seen from `second`: "left of", "right of", "above" or "below"."""
    dx, dy = _offset(first, second)
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def corner(placed: Placed) -> str:
    """The part of the image that holds the centre: "top left", "top", ..., "center", ..., "bottom
    right".
    """
    x, y = placed.center
    column = ("left", "", "right")[int(3 * x / SIDE)]
    row = ("top", "", "bottom")[int(3 * y / SIDE)]
    return f"{row} {column}".strip() or "center"


def shaded(ground: str, shade: int) -> tuple[int, int, int]:
    """The RGB colour of a ground, a little lighter or darker, so that no two images are alike by
    accident.
    """
    red, green, blue = (max(0, min(255, channel + shade)) for channel in BACKGROUNDS[ground])
    return red, green, blue


def _names(rng: Random, count: int) -> list[str]:
    """Different names; every second one keeps to the kind before it, so that counting a kind is not
    always "1".
    """
    names = [rng.choice(NAMES)]
    while len(names) < count:
        pool = NAMES
        if rng.random() < 0.4:
            pool = tuple(DRAWINGS[KIND_OF[names[-1]]])
        names.append(rng.choice([name for name in pool if name not in names]))
    return names


def _place(rng: Random, names: list[str]) -> list[Placed] | None:
    """A random place for every name, or None when this draw leaves no clear arrangement."""
    placed: list[Placed] = []
    for name in names:
        big = rng.random() < 0.5
        sprite = drawing(name, rng.randint(*(BIG if big else SMALL)))
        left = rng.randint(1, SIDE - 1 - sprite.width)
        top = rng.randint(1, SIDE - 1 - sprite.height)
        right, bottom = left + sprite.width, top + sprite.height
        new = Placed(name, (left, top, right, bottom), big)
        if not all(_apart(new, old) and _clear(new, old) for old in placed):
            return None
        placed.append(new)
    return placed


def _apart(first: Placed, second: Placed) -> bool:
    left, top, right, bottom = first.box
    other_left, other_top, other_right, other_bottom = second.box
    beside = right + MARGIN <= other_left or other_right + MARGIN <= left
    above = bottom + MARGIN <= other_top or other_bottom + MARGIN <= top
    return beside or above


def _clear(first: Placed, second: Placed) -> bool:
    distances = [abs(offset) for offset in _offset(first, second)]
    return max(distances) > CLEAR * min(distances)


def _offset(first: Placed, second: Placed) -> tuple[float, float]:
    """From the centre of `second` to that of `first`, in pixels."""
    x, y = first.center
    other_x, other_y = second.center
    return x - other_x, y - other_y
