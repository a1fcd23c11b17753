"""Rows of like length in one micro-batch, so that less of it is padding.

The weighted loss of an optimizer step is one sum over its rows, so the update does not depend on
how they are divided into micro-batches and ranks (`cotbal.loss`). Rows change places within their
step only. Which rows a step has, and the order of the steps, are those of the plain order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from cotbal.data.batches.collate import Row
from cotbal.data.batches.order import Shuffled


@dataclass(frozen=True)
class StepLayout:
    """How the rows of an optimizer step are divided.

    Attributes:
        rows: of a micro-batch.
        ranks: that take micro-batches in turn.
        micro_batches: of a step and rank.
    """

    rows: int
    ranks: int
    micro_batches: int

    @property
    def size(self) -> int:
        """Rows of an optimizer step; the last one of an epoch may have fewer."""
        return self.rows * self.ranks * self.micro_batches


def grouped(lengths: Sequence[int], layout: StepLayout) -> list[int]:
    """Indices of the rows of a step, longest first, as the ranks take them.

    The first micro-batch is the longest, so memory that is too small is found at the first step.
    All ranks have similar lengths at a time. The first rank has the longest rows of every other
    round and the shortest of the rest, so no rank has more to do than the others over the step.

    Args:
        lengths: tokens of every row; rows of equal length keep their order.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    taken: list[int] = []
    together = layout.rows * layout.ranks
    for turn, start in enumerate(range(0, len(order), together)):
        shares = _cut(order[start : start + together], layout.rows)
        for share in reversed(shares) if turn % 2 else shares:
            taken += share
    return taken


def _cut(rows: list[int], size: int) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class GroupedByLength(Dataset[dict[str, Any]]):
    """The rows of an epoch, grouped by length within every optimizer step.

    The order depends on rows and epoch alone, so it is the same on every rank, in every process
    that makes batches, and when a training resumes. Only one step is measured at a time.

    Args:
        rows: in plain order.
        length: tokens of a row; an estimate is enough.
    """

    def __init__(self, rows: Shuffled, layout: StepLayout, length: Callable[[Row], int]) -> None:
        self.rows = rows
        self.layout = layout
        self.length = length
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Shuffle; the loader calls it when an epoch begins."""
        self.rows.set_epoch(epoch)
        self._start = -1
        self._step: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start = index - index % self.layout.size
        if start != self._start:
            self._step = self._grouped(start)
            self._start = start
        return self._step[index - start]

    def _grouped(self, start: int) -> list[dict[str, Any]]:
        stop = min(start + self.layout.size, len(self.rows))
        items = [self.rows[index] for index in range(start, stop)]
        lengths = [self.length(item["row"]) for item in items]
        return [items[index] for index in grouped(lengths, self.layout)]
