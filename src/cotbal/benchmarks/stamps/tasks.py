"""The tasks: image, question and answer. Every maker is a function of (world, split, rng)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cotbal.benchmarks.stamps import charts, signs
from cotbal.benchmarks.stamps.scenes import CELLS, Placed, box_text, portrait, scene_of
from cotbal.benchmarks.stamps.things import Thing, article

# words for the lower and the higher place, along the columns and along the rows
SIDES = (("on the left", "on the right"), ("at the top", "at the bottom"))
RELATIONS = (("left of", "right of"), ("above", "below"))


@dataclass(frozen=True)
class World:
    """Everything that images are made of; the dictionaries are by split.

    `known` are the training things: tasks that ask for a name show them in every split, on other
    grounds. `things` are disjoint by name: tasks that ask for a category show things in validation
    that training never had.
    """

    things: dict[str, list[Thing]]
    known: list[Thing]
    grounds: dict[str, list[Path]]
    tables: dict[str, list[charts.Table]]
    words: list[str]
    fonts: list[Path]


@dataclass(frozen=True)
class Example:
    """One question with its answer and its image, None for text only."""

    question: str
    answer: str
    image: Image.Image | None


Maker = Callable[[World, str, random.Random], Example]


def detail_caption(world: World, split: str, rng: random.Random) -> Example:
    """One known thing, large: its name and the more general noun of WordNet."""
    thing = pick(world.known, rng)
    text = f"{article(thing.name)} {thing.name}, a kind of {thing.kind}"
    image = portrait(thing, rng.choice(world.grounds[split]), rng)
    return Example("Describe the image.", text, image)


def region_caption(world: World, split: str, rng: random.Random) -> Example:
    """Two known things: name the one in the given box, and where it is."""
    image, placed = two_things(world.known, world.grounds[split], rng)
    asked = rng.choice(placed)
    name = asked.thing.name
    question = f"Describe the region {box_text(asked.box)}."
    return Example(question, f"{article(name)} {name} at the {asked.cell}", image)


def grounding(world: World, split: str, rng: random.Random) -> Example:
    """The inverse of region_caption: the box of the named thing."""
    image, placed = two_things(world.known, world.grounds[split], rng)
    asked = rng.choice(placed)
    return Example(f"Give the box of the {asked.thing.name}.", box_text(asked.box), image)


def general_vqa(world: World, split: str, rng: random.Random) -> Example:
    """The category of one thing whose name training never had, or how many things there are."""
    if rng.random() < 0.3:
        count = rng.randint(1, len(CELLS))
        cutouts = [thing for thing in world.things[split] if thing.cutout]
        shown = [pick(cutouts, rng)] * count
        cells = rng.sample(sorted(CELLS), count)
        image, _ = scene_of(shown, cells, rng.choice(world.grounds[split]), rng)
        return Example("How many things are there?", str(count), image)
    thing = pick(world.things[split], rng)
    image = portrait(thing, rng.choice(world.grounds[split]), rng)
    return Example("What kind of thing is this?", thing.category, image)


def relation_vqa(world: World, split: str, rng: random.Random) -> Example:
    """Two things of unseen names: the category on one side of the image, or beside the other
    one."""
    image, placed = two_things(world.things[split], world.grounds[split], rng)
    one, other = placed if rng.random() < 0.5 else placed[::-1]
    cell, other_cell = CELLS[one.cell], CELLS[other.cell]
    apart = [axis for axis in (0, 1) if cell[axis] != other_cell[axis]]
    axis = rng.choice(apart)
    word = 0 if cell[axis] < other_cell[axis] else 1
    if rng.random() < 0.5:
        question = f"What kind of thing is {SIDES[axis][word]}?"
    else:
        question = f"What kind of thing is {RELATIONS[axis][word]} the {other.thing.category}?"
    return Example(question, one.thing.category, image)


def chart_qa(world: World, split: str, rng: random.Random) -> Example:
    """A question about four bars of real numbers."""
    chart = charts.draw_numbers(world.tables[split], rng)
    question, answer = charts.ask(chart, rng)
    return Example(question, answer, charts.draw_chart(chart, world.fonts[0], rng))


def ocr_qa(world: World, split: str, rng: random.Random) -> Example:
    """The word on a sign."""
    word = rng.choice(world.words)
    image = signs.draw_sign(word, rng.choice(world.grounds[split]), world.fonts, rng)
    return Example("What does the sign say?", word, image)


def pick(things: list[Thing], rng: random.Random) -> Thing:
    """A thing of a random category: the large categories (birds, mammals) must not be the answer
    most of the time.
    """
    categories = {thing.category for thing in things}
    category = rng.choice(sorted(categories))
    return rng.choice([thing for thing in things if thing.category == category])


def two_things(
    things: list[Thing], grounds: list[Path], rng: random.Random
) -> tuple[Image.Image, list[Placed]]:
    """Two cut-outs of different categories in two quarters of a scene."""
    cutouts = [thing for thing in things if thing.cutout]
    first = pick(cutouts, rng)
    second = pick([thing for thing in cutouts if thing.category != first.category], rng)
    cells = rng.sample(sorted(CELLS), 2)
    return scene_of([first, second], cells, rng.choice(grounds), rng)


MAKERS: dict[str, Maker] = {
    "detail_caption": detail_caption,
    "region_caption": region_caption,
    "general_vqa": general_vqa,
    "relation_vqa": relation_vqa,
    "chart_qa": chart_qa,
    "ocr_qa": ocr_qa,
    "grounding": grounding,
}
METRICS = {"detail_caption": "cider", "region_caption": "cider", "grounding": "box_iou"}
