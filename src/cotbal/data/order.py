"""The order in which a run sees its rows: shuffled anew every epoch, and the same on any number of ranks."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch.utils.data import Dataset

FILLER = "filler"  # marks a row that is there for its shape alone


class Rows(Protocol):
    """Rows by their place."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, place: int, /) -> dict[str, Any]:
        """One of them."""


class Shuffled(Dataset[dict[str, Any]]):
    """The rows in the order of an epoch, for a loader that takes them one after another.

    Ranks take micro-batches in turn, so the last round of an epoch may leave some of them with less. Loaders fill it up
    with rows from the beginning, which then count twice. Here it is filled up with marked rows instead, whose labels
    the collator has to mask.

    Args:
        rows: of the run.
        seed: of the order; epoch e is shuffled with `seed + e`.
        at_once: rows that all ranks together take at a time; 1 for a single rank.
    """

    def __init__(self, rows: Rows, seed: int, at_once: int = 1) -> None:
        self.rows = rows
        self.seed = seed
        self.length = -(-len(self.rows) // at_once) * at_once
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Shuffle; the loader calls it when an epoch begins."""
        generator = torch.Generator().manual_seed(self.seed + epoch)
        self.order = torch.randperm(len(self.rows), generator=generator).tolist()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> dict[str, Any]:
        if place < len(self.order):
            return self.rows[self.order[place]]
        return {**self.rows[self.order[0]], FILLER: True}
