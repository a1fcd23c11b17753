"""Which records are trained on while steps are timed: the longest ones first, then a fair mix."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cotbal.data.batches.lengths import Item, Length, open_meter
from cotbal.data.reading.record import Record
from cotbal.errors import CotbalError
from cotbal.jobs.inputs import Inputs
from cotbal.recipe.mixture import TRAIN, set_name
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run, drawn

# Steps before the timed ones. The trainer checks its weights in the first step that holds several
# tasks, which the longest rows alone may not do.
UNTIMED = 2
POOL = 4000  # records whose lengths are measured, spread evenly over the mixture

Position = tuple[str, int]  # task, index of a record of its training file


@dataclass(frozen=True)
class TimedRows:
    """Records of all steps, one after another.

    Attributes:
        order: of the untimed steps, of the timed ones, and of one more, which a loader may read
            ahead.
        measured: number of records among which they were chosen.
        longest: tokens of the longest of them, images included; None where only texts or answers
            could be counted.
    """

    order: tuple[Position, ...]
    measured: int
    longest: int | None


def rows_to_time(recipe: Recipe, inputs: Inputs, run: Run, steps: int) -> TimedRows:
    """Records for so many timed steps of a final run of `recipe`."""
    pool = _pool(inputs, drawn(run, inputs.sizes))
    sizes, exact = _lengths(recipe, inputs, pool)
    usable = [i for i, size in enumerate(sizes) if size is not None]
    lengths = [sizes[i] or 0 for i in usable]
    order = in_steps(lengths, recipe.file.optimization.batch_size, steps)
    positions = tuple(pool[usable[i]] for i in order)
    return TimedRows(positions, len(usable), max(lengths) if exact else None)


def in_steps(lengths: Sequence[int], batch: int, steps: int) -> list[int]:
    """Indices of the rows of `UNTIMED + steps + 1` optimizer steps.

    The first step has the longest rows: no step of a training needs more memory. The rows of every
    other one are spread evenly over all lengths, so that steps take about the same time. Where
    there are fewer rows than a step has, they are repeated.
    """
    ascending = sorted(range(len(lengths)), key=lambda i: lengths[i])
    longest = [ascending[-1 - i % len(ascending)] for i in range(batch)]
    order = list(longest)
    mixed = UNTIMED - 1 + steps
    for step in range(mixed):
        quantiles = (np.arange(batch) + (step + 0.5) / mixed) / batch
        rows = [ascending[int(quantile * len(ascending))] for quantile in quantiles]
        random.Random(step).shuffle(rows)  # as in a training, neighbours have any length
        order += rows
    return order + order[-batch:]


def _pool(inputs: Inputs, counts: Mapping[str, int]) -> list[Position]:
    """Training records of an epoch, evenly from all tasks; `counts` of each."""
    names: list[Position] = []
    for task, count in counts.items():
        shown = np.resize(inputs.portions[task].indices, count)  # repeats them where it is larger
        names += [(task, int(index)) for index in shown]
    chosen = np.unique(np.linspace(0, len(names) - 1, POOL).astype(int))
    return [names[i] for i in chosen]


def _lengths(
    recipe: Recipe, inputs: Inputs, pool: Sequence[Position]
) -> tuple[list[int | None], bool]:
    """Tokens of every row, None for a broken one, and whether images count."""
    items: list[Item] = []
    for name, index in pool:
        record = inputs.opened[set_name(name, TRAIN)][index]
        items.append((record, recipe.mixture[name].instruction))
    with open_meter(recipe) as meter:
        if meter is None or not meter.exact:
            return [_letters(record) for record, _ in items], False
        return [_tokens(length) for length in meter.lengths(items)], True


def _letters(record: Record) -> int:
    return sum(len(turn.text) for turn in record.turns)


def _tokens(length: Length | CotbalError) -> int | None:
    return length.tokens if isinstance(length, Length) else None
