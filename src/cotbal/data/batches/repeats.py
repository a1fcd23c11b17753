"""How often an epoch shows every row, where tasks are sampled by ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cotbal.data.sampling import permutation


@dataclass(frozen=True)
class Repeats:
    """Every task is read round and round in a random order of its rows, `counts` rows per epoch.

    So no row is shown a second time before all of its task were shown once, a larger ratio only
    adds rows, and over several epochs a ratio below 1 reaches all rows.

    Attributes:
        ranks: position of every row in the order of its task; shape [row].
        sizes: number of rows of its task; shape [row].
        counts: number of rows of its task that an epoch shows; shape [row].
    """

    ranks: np.ndarray
    sizes: np.ndarray
    counts: np.ndarray

    def times(self, epoch: int) -> np.ndarray:
        """How often an epoch shows every row; shape [row]."""
        begin = epoch * self.counts
        times: np.ndarray = self._shown(begin + self.counts) - self._shown(begin)
        return times

    def _shown(self, reads: np.ndarray) -> np.ndarray:
        """How often every row was shown after so many rows of its task."""
        shown: np.ndarray = -((self.ranks - reads) // self.sizes)
        return shown

    def order(self, plain: Tensor, epoch: int, generator: torch.Generator) -> list[int]:
        """An epoch: a plain order of all rows without those that are left out, with repeated rows
        at random places.

        The places depend on neither ratios nor counts, so trainings that differ in ratios alone
        show their common rows at about the same time.
        """
        times = torch.from_numpy(self.times(epoch))
        places = torch.empty(len(plain), dtype=torch.float64)
        places[plain] = torch.arange(len(plain), dtype=torch.float64)
        rows, keys = [], []
        for showing in range(int(times.max())):
            shown = (times > showing).nonzero().squeeze(1)
            rows.append(shown)
            keys.append(places[shown])
            random = torch.rand(len(plain), generator=generator, dtype=torch.float64)
            places = random * len(plain)
        in_order = torch.argsort(torch.cat(keys), stable=True)
        return torch.cat(rows)[in_order].tolist()


@dataclass(frozen=True)
class GivenOrder:
    """Rows in a chosen order, the same in every epoch.

    Attributes:
        rows: indices, one per row of an epoch.
    """

    rows: Sequence[int]

    def order(self, _plain: Tensor, _epoch: int, _generator: torch.Generator) -> list[int]:
        """An epoch."""
        return list(self.rows)


def repeats(sizes: Mapping[str, int], counts: Mapping[str, int], seed: int) -> Repeats:
    """Repeats of rows that are in order task after task.

    Args:
        sizes: task -> number of its rows.
        counts: task -> number of rows that an epoch shows.
        seed: of the training; the order in which a task is read follows from it and the name.
    """
    ranks = []
    for task, size in sizes.items():
        order = permutation(size, f"ratios {task}", seed)
        ranks.append(np.argsort(order))
    lengths = list(sizes.values())
    reads = [counts[task] for task in sizes]
    return Repeats(np.concatenate(ranks), np.repeat(lengths, lengths), np.repeat(reads, lengths))
