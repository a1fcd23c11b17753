"""Scenes: things pasted on photographs, with exact boxes in integers 0-99."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter

from cotbal.benchmarks.stamps.things import Thing, open_image

SIDE = 192
Box = tuple[int, int, int, int]
CELLS = {"top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1)}


@dataclass(frozen=True)
class Placed:
    """A thing in a scene: its box [x1, y1, x2, y2] in hundredths of the side, and its cell in
    words.
    """

    thing: Thing
    box: Box
    cell: str


def ground_image(path: Path, rng: random.Random) -> Image.Image:
    """A quiet ground: a square of a photograph, blurred and made paler so that it does not hide
    what is pasted.
    """
    photo = cached(path).convert("RGB")
    square = random_square(photo, rng.uniform(0.6, 1.0), rng)
    white = Image.new("RGB", (SIDE, SIDE), "white")
    pale = Image.blend(square, white, 0.45)
    blurred = pale.filter(ImageFilter.GaussianBlur(2))
    return ImageEnhance.Color(blurred).enhance(0.6)


def random_square(image: Image.Image, fraction: float, rng: random.Random) -> Image.Image:
    """A square anywhere in an image, its side a fraction of the shorter one, scaled to a scene."""
    side = int(min(image.size) * fraction)
    left = rng.randint(0, image.width - side)
    top = rng.randint(0, image.height - side)
    square = image.crop((left, top, left + side, top + side))
    return square.resize((SIDE, SIDE))


def paste(scene: Image.Image, thing: Thing, cell: str, rng: random.Random) -> Placed:
    """Paste a thing into one quarter of the scene, with some play in size and place."""
    column, row = CELLS[cell]
    half = SIDE // 2
    shape = fitted(cached(thing.image), int(half * rng.uniform(0.86, 0.98)))
    x = column * half + rng.randint(0, half - shape.width)
    y = row * half + rng.randint(0, half - shape.height)
    scene.paste(shape, (x, y), shape)
    box = hundredths((x, y, x + shape.width, y + shape.height))
    return Placed(thing, box, cell)


def scene_of(
    things: list[Thing], cells: list[str], ground: Path, rng: random.Random
) -> tuple[Image.Image, list[Placed]]:
    """A scene with one thing per cell; returns the image and the things with their boxes."""
    scene = ground_image(ground, rng)
    pairs = zip(things, cells, strict=True)
    return scene, [paste(scene, thing, cell, rng) for thing, cell in pairs]


def portrait(thing: Thing, ground: Path, rng: random.Random) -> Image.Image:
    """One thing, large: a photograph as it is (a random crop), a stamp pasted on a ground."""
    shape = cached(thing.image)
    if not thing.cutout:
        return random_square(shape, rng.uniform(0.85, 1.0), rng).convert("RGB")
    scene = ground_image(ground, rng)
    large = fitted(shape, int(SIDE * rng.uniform(0.7, 0.95)))
    left = rng.randint(0, SIDE - large.width)
    top = rng.randint(0, SIDE - large.height)
    scene.paste(large, (left, top), large)
    return scene


def fitted(shape: Image.Image, longest: int) -> Image.Image:
    """An image scaled so that its longest side has so many pixels."""
    scale = longest / max(shape.size)
    width = max(1, round(shape.width * scale))
    height = max(1, round(shape.height * scale))
    return shape.resize((width, height))


def hundredths(pixels: Box) -> Box:
    """Pixel edges as integers 0-99 of the side."""
    left, top, right, bottom = (min(99, edge * 100 // SIDE) for edge in pixels)
    return left, top, right, bottom


def box_text(box: Box) -> str:
    """A box as the model reads and writes it, without blanks: "[12,40,55,88]"."""
    return "[" + ",".join(str(edge) for edge in box) + "]"


@lru_cache(maxsize=1024)
def cached(path: Path) -> Image.Image:
    """An opened image, at most 400 pixels wide: thousands of scenes use the same few hundred
    images.
    """
    image = open_image(path)
    image.thumbnail((400, 400))
    return image
