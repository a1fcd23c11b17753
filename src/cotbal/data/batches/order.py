"""The rows of a run and their order: shuffled every epoch, and the same on any number of
ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from cotbal.data.batches.collate import Row
from cotbal.data.batches.repeats import GivenOrder, Repeats
from cotbal.data.reading.record import IMAGE, Turn
from cotbal.data.reading.records import Records

FILLER = "filler"  # marks a row whose labels do not count
SEEN = 64  # rows among which those for a check are chosen

# task, its records, indices of those that the run trains on, instruction
Part = tuple[str, Records, np.ndarray, str | None]


class Shuffled(Dataset[dict[str, Any]]):
    """The rows in the order of an epoch, for a loader that takes them one after another.

    Ranks take micro-batches in turn, so the last round of an epoch may leave some of them with
    less. Loaders fill it up with rows from the beginning, which then count twice. Here it is filled
    up with marked rows, whose labels the collator has to mask.

    Args:
        rows: of the run.
        seed: of the order; epoch e is shuffled with `seed + e`.
        at_once: rows that all ranks together take at a time; 1 for a single rank.
        repeats: which rows an epoch repeats or leaves out, or their order, as many as there are;
            None: none, in random order.
    """

    def __init__(
        self,
        rows: Mixed | Sequence[dict[str, Any]],
        seed: int,
        at_once: int = 1,
        repeats: Repeats | GivenOrder | None = None,
    ) -> None:
        self.rows = rows
        self.seed = seed
        self.repeats = repeats
        self.length = -(-len(self.rows) // at_once) * at_once
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Shuffle; the loader calls it when an epoch begins."""
        generator = torch.Generator().manual_seed(self.seed + epoch)
        plain = torch.randperm(len(self.rows), generator=generator)
        self.order = self.repeats.order(plain, epoch, generator) if self.repeats else plain.tolist()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < len(self.order):
            return self.rows[self.order[index]]
        return {**self.rows[self.order[0]], FILLER: True}


class Mixed(Dataset[dict[str, Any]]):
    """The training rows of a run, task after task.

    Args:
        parts: one per task.
        repeats: of the rows, where tasks are sampled by ratios; `Shuffled` follows them.
    """

    def __init__(self, parts: Sequence[Part], repeats: Repeats | GivenOrder | None = None) -> None:
        self.parts = parts
        self.repeats = repeats
        self.places = [
            (part, int(index)) for part, (_, _, indices, _) in enumerate(parts) for index in indices
        ]

    def __len__(self) -> int:
        return len(self.places)

    def spread(self, count: int) -> list[dict[str, Any]]:
        """About `count` rows from all over the run, one with images first and one without last,
        if there are any.
        """
        seen = [self[i] for i in _evenly(len(self), SEEN)]
        seen.sort(key=lambda item: not item["row"].record.images)
        return [seen[i] for i in _evenly(len(seen), count)]

    def with_image(self) -> dict[str, Any] | None:
        """A short row about one image of the run; None where there are none."""
        for task, records, indices, _ in self.parts:
            for record in (records[int(index)] for index in indices):
                if record.images:
                    turns = (Turn("user", f"{IMAGE}\n?"), Turn("assistant", "."))
                    short = replace(record, images=record.images[:1], turns=turns)
                    return {"row": Row(short, task, None), "task": task}
        return None

    def __getitem__(self, index: int) -> dict[str, Any]:
        part, record = self.places[index]
        task, records, _, instruction = self.parts[part]
        return {"row": Row(records[record], task, instruction), "task": task}


def _evenly(size: int, count: int) -> list[int]:
    """Indices of at most `count` rows out of `size`, from the first to the last."""
    positions = np.linspace(0, size - 1, count)
    indices: list[int] = np.unique(positions.astype(int)).tolist()
    return indices
