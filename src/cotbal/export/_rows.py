"""The rows of a mixture in one shuffled order, each as often as its task is to be shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cotbal.data.reading.images import resolve
from cotbal.data.reading.record import IMAGE, Turn, between_markers, with_instruction
from cotbal.data.sampling import permutation
from cotbal.export._material import Material, Part


@dataclass(frozen=True)
class Row:
    """One conversation as trainers get it.

    Attributes:
        task: its name.
        turns: with the task's instruction; the place of an image is the marker `<image>`, without
            the line break at the head, which is the business of the trainer's template.
        images: absolute paths, in the order of the markers.
    """

    task: str
    turns: tuple[Turn, ...]
    images: tuple[str, ...]


def rows(material: Material, copies: Mapping[str, float] | None = None) -> Iterator[Row]:
    """Every kept record `copies[task]` times (once without), in an order that follows from the
    recipe's seed.

    A part of a time is the first records of the nested order, so that larger fractions hold smaller
    ones. Records without an answer that carries loss are left out.
    """
    picked = [
        _picked(part, 1.0 if copies is None else copies[part.name]) for part in material.parts
    ]
    part_of = np.repeat(np.arange(len(picked)), [len(indices) for indices in picked])
    indices = np.concatenate(picked)
    for place in permutation(len(indices), "export", material.recipe.file.optimization.seed):
        part = material.parts[part_of[place]]
        record = part.records[int(indices[place])]
        if not record.learnt:
            continue
        turns = with_instruction(record.turns, material.recipe.mixture[part.name].instruction)
        images = tuple(
            str(resolve(material.recipe.images, name).resolve()) for name in record.images
        )
        yield Row(
            part.name,
            tuple(replace(t, text=IMAGE.join(between_markers(t.text))) for t in turns),
            images,
        )


def one_answer_each(row: Row) -> Iterator[Row]:
    """A row for every answer that carries loss, with all that was said before it."""
    for place, turn in enumerate(row.turns):
        if turn.role == "assistant" and turn.loss:
            turns = row.turns[: place + 1]
            shown = sum(said.text.count(IMAGE) for said in turns)
            yield Row(row.task, turns, row.images[:shown])


def count(part: Part, copies: float) -> int:
    """Number of rows of a task that is shown `copies` times."""
    return len(_picked(part, copies))


def _picked(part: Part, copies: float) -> np.ndarray:
    """Places in the records, ascending; at least one, so that no task vanishes."""
    whole, rest = divmod(max(copies * part.size, 1.0), part.size)
    times = int(whole) + (part.portioned.order < round(rest))
    return np.repeat(part.portioned.indices, times)


def parts_of(text: str, images: Iterator[str] | None = None) -> list[dict[str, Any]]:
    """Text and image parts of one turn, as chat templates read them; with `images`, an image
    names its path.
    """
    first, *others = text.split(IMAGE)
    found: list[dict[str, Any]] = [{"type": "text", "text": first}] if first else []
    for piece in others:
        found.append(
            {"type": "image"} if images is None else {"type": "image", "path": next(images)}
        )
        found += [{"type": "text", "text": piece}] if piece else []
    return found
