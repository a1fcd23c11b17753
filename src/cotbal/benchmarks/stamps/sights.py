"""Scenes for the alignment of the base checkpoint: drawn, described, and seen once by the frozen
vision model.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cotbal.benchmarks.stamps import charts, signs
from cotbal.benchmarks.stamps.scenes import Box, hundredths, portrait
from cotbal.benchmarks.stamps.tasks import World, pick, two_things
from cotbal.benchmarks.stamps.things import Thing, article

WHOLE: Box = (0, 0, 99, 99)
PLATE: Box = (0, 30, 99, 70)
VISION_BATCH = 32
SECONDS_BETWEEN_LINES = 20


@dataclass(frozen=True)
class Shown:
    """A scene as the alignment needs it: its features [tokens, channels], things with their boxes,
    and its caption.
    """

    features: Tensor
    names: tuple[tuple[str, Box], ...]
    caption: str


@dataclass(frozen=True)
class Draft:
    """A scene before its features are known."""

    image: Image.Image
    names: tuple[tuple[str, Box], ...]
    caption: str


def drafts(
    world: World, split: str, count: int, seed: int, kinds: Sequence[str]
) -> Iterator[Draft]:
    """Captioned images on the grounds of a split, their kinds drawn from a list."""
    for at in range(count):
        rng = random.Random(f"{seed}/align/{split}/{at}")
        yield DRAWN[rng.choice(kinds)](world, split, rng)


def draft_portrait(world: World, split: str, rng: random.Random) -> Draft:
    """One known thing, large."""
    thing = pick(world.known, rng)
    image = portrait(thing, rng.choice(world.grounds[split]), rng)
    return Draft(image, ((thing.name, WHOLE),), named(thing))


def draft_pair(world: World, split: str, rng: random.Random) -> Draft:
    """Two known things, and where they are."""
    image, placed = two_things(world.known, world.grounds[split], rng)
    caption = " and ".join(f"{named(one.thing)} at the {one.cell}" for one in placed)
    return Draft(image, tuple((one.thing.name, one.box) for one in placed), caption)


def draft_chart(world: World, split: str, rng: random.Random) -> Draft:
    """The colours of the bars from left to right, and the highest of them."""
    chart = charts.draw_numbers(world.tables[split], rng)
    boxes = [hundredths(bar) for bar in charts.bars(chart)]
    at = chart.values.index(max(chart.values))
    highest = chart.colours[at]
    caption = f"bars in {', '.join(chart.colours)}, and {highest} is the highest"
    image = charts.draw_chart(chart, world.fonts[0], rng)
    return Draft(image, tuple(zip(chart.colours, boxes, strict=True)), caption)


def draft_sign(world: World, split: str, rng: random.Random) -> Draft:
    """The word on a sign."""
    word = rng.choice(world.words)
    image = signs.draw_sign(word, rng.choice(world.grounds[split]), world.fonts, rng)
    return Draft(image, ((word, PLATE),), f"a sign that says {word}")


DRAWN = {"portrait": draft_portrait, "pair": draft_pair, "chart": draft_chart, "sign": draft_sign}


@torch.no_grad()
def look(
    model: Any, processor: Any, scenes: Iterator[Draft], report: Callable[[str], None]
) -> list[Shown]:
    """The features that the frozen vision model has for scenes, computed once."""
    shown: list[Shown] = []
    reported = time.monotonic()
    while batch := list(islice(scenes, VISION_BATCH)):
        images = [draft.image for draft in batch]
        pixels = processor.image_processor(images, return_tensors="pt")["pixel_values"]
        hidden = model.model.vision_tower(pixels).last_hidden_state
        features = hidden.flatten(2).mT
        for row, draft in zip(features, batch, strict=True):
            shown.append(Shown(row.contiguous(), draft.names, draft.caption))
        if time.monotonic() - reported > SECONDS_BETWEEN_LINES:
            reported = time.monotonic()
            report(f"images: {len(shown)} encoded")
    return shown


def named(thing: Thing) -> str:
    """The name with its article."""
    return f"{article(thing.name)} {thing.name}"
