"""Rows in the order that the loaders of transformers and accelerate give one process, on any number
of ranks.
"""

from __future__ import annotations

from typing import Any

import pytest
from accelerate.data_loader import SeedableRandomSampler

from cotbal.data.batches.order import FILLER, Shuffled


class Rows:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"row": range(self.count)[index]}


def order(rows: Shuffled) -> list[int]:
    return [rows[number]["row"] for number in range(len(rows)) if FILLER not in rows[number]]


@pytest.mark.parametrize("at_once", [1, 4, 12])
@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_the_order_is_that_of_one_process(at_once: int, epoch: int) -> None:
    """Of runs that were made before there was this class, among others."""
    sampler = SeedableRandomSampler(Rows(50), data_seed=3)
    sampler.set_epoch(epoch)
    rows = Shuffled(Rows(50), 3, at_once)
    rows.set_epoch(epoch)
    assert order(rows) == list(sampler)


@pytest.mark.parametrize(
    ("count", "at_once", "length"), [(50, 1, 50), (50, 8, 56), (48, 8, 48), (3, 16, 16)]
)
def test_an_epoch_is_filled_up_to_whole_rounds(count: int, at_once: int, length: int) -> None:
    rows = Shuffled(Rows(count), 0, at_once)
    assert len(rows) == length
    assert [FILLER in rows[number] for number in range(length)] == [False] * count + [True] * (
        length - count
    )
    assert sorted(order(rows)) == list(range(count))
