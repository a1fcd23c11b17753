"""The rows of a mixture in a shuffled order, repeated as their task's weight requires."""

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
    """A conversation.

    Attributes:
        task: its name.
        turns: with the task's instruction. Images are markers `<image>`, without a line break
            before them, which is up to the trainer's template.
        images: absolute paths, in the order of the markers.
    """

    task: str
    turns: tuple[Turn, ...]
    images: tuple[str, ...]


def rows(material: Material, copies: Mapping[str, float]) -> Iterator[Row]:
    """Every kept record `copies[task]` times, in an order by the recipe's seed.

    A fraction of a repetition is the start of the nested order, so larger fractions contain smaller
    ones. Records without an answer that carries loss are left out.
    """
    recipe = material.recipe
    picked = [_picked(part, copies[part.name]) for part in material.parts]
    part_of = np.repeat(np.arange(len(picked)), [len(indices) for indices in picked])
    indices = np.concatenate(picked)
    for i in permutation(len(indices), "export", recipe.file.optimization.seed):
        part = material.parts[part_of[i]]
        record = part.records[int(indices[i])]
        if not record.learnt:
            continue
        turns = with_instruction(record.turns, recipe.mixture[part.name].instruction)
        yield Row(
            part.name,
            tuple(replace(turn, text=IMAGE.join(between_markers(turn.text))) for turn in turns),
            tuple(str(resolve(recipe.images, name).resolve()) for name in record.images),
        )


def one_answer_each(row: Row) -> Iterator[Row]:
    """A row for every answer that carries loss, with all turns before it."""
    for i, turn in enumerate(row.turns):
        if turn.role == "assistant" and turn.loss:
            turns = row.turns[: i + 1]
            count = sum(before.text.count(IMAGE) for before in turns)
            yield Row(row.task, turns, row.images[:count])


def count(part: Part, copies: float) -> int:
    """Number of rows of a task with so many repetitions."""
    return len(_picked(part, copies))


def _picked(part: Part, copies: float) -> np.ndarray:
    """Indices of records, ascending; at least one, so that no task is lost."""
    whole, rest = divmod(max(copies * part.size, 1.0), part.size)
    times = int(whole) + (part.portioned.order < round(rest))
    return np.repeat(part.portioned.indices, times)


def parts_of(text: str, images: Iterator[str] | None = None) -> list[dict[str, Any]]:
    """Text and image parts of a turn, as in chat templates; with `images`, images have paths."""
    first, *others = text.split(IMAGE)
    parts: list[dict[str, Any]] = [{"type": "text", "text": first}] if first else []
    for piece in others:
        path = {} if images is None else {"path": next(images)}
        parts.append({"type": "image", **path})
        parts += [{"type": "text", "text": piece}] if piece else []
    return parts
