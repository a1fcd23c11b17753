"""Rows that an epoch repeats or leaves out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cotbal.data.batches.order import Shuffled
from cotbal.data.batches.repeats import Repeats, repeats

SIZES = {"ocr": 40, "vqa": 60}


def times(counts: dict[str, int], epochs: int = 1, seed: int = 0) -> np.ndarray:
    """How often every row was shown after some epochs."""
    drawn = repeats(SIZES, counts, seed)
    shown: np.ndarray = sum(drawn.times(epoch) for epoch in range(epochs))
    return shown


def shuffled(counts: dict[str, int], epoch: int = 0, seed: int = 0, at_once: int = 1) -> list[int]:
    drawn = repeats(SIZES, counts, seed)
    rows = Shuffled([{"row": row} for row in range(100)], seed, at_once, drawn)
    rows.set_epoch(epoch)
    return [rows[number]["row"] for number in range(100)]


@given(st.integers(1, 99), st.integers(1, 5), st.integers(0, 2**31))
def test_every_row_is_shown_once_before_any_is_shown_twice(
    count: int, epochs: int, seed: int
) -> None:
    counts = {"ocr": count, "vqa": 100 - count}
    shown = times(counts, epochs, seed)
    for task, rows in (("ocr", shown[:40]), ("vqa", shown[40:])):
        assert rows.sum() == counts[task] * epochs
        assert rows.max() - rows.min() <= 1


@given(st.integers(1, 98), st.integers(1, 4))
def test_a_larger_ratio_only_adds_rows(count: int, epochs: int) -> None:
    fewer, more = (times({"ocr": n, "vqa": 100 - n}, epochs) for n in (count, count + 1))
    assert np.all(more[:40] >= fewer[:40])
    assert np.all(more[40:] <= fewer[40:])


def test_a_ratio_of_one_and_a_half_repeats_a_seeded_half() -> None:
    shown = times({"ocr": 60, "vqa": 40})
    assert sorted(shown[:40]) == [1] * 20 + [2] * 20
    assert sorted(shown[40:]) == [0] * 20 + [1] * 40
    assert np.array_equal(shown, times({"ocr": 60, "vqa": 40}))
    assert not np.array_equal(shown, times({"ocr": 60, "vqa": 40}, seed=1))


def test_the_second_epoch_shows_what_the_first_left_out() -> None:
    drawn = repeats(SIZES, {"ocr": 80, "vqa": 20}, 0)
    first, second, third = (set(np.flatnonzero(drawn.times(e)[40:])) for e in range(3))
    assert len(first | second | third) == 60


def test_the_times_do_not_depend_on_the_other_tasks() -> None:
    alone = repeats({"vqa": 60}, {"vqa": 30}, 3)
    both = repeats(SIZES, {"ocr": 70, "vqa": 30}, 3)
    assert np.array_equal(alone.times(1), both.times(1)[40:])


def test_every_task_is_read_in_an_order_of_its_own() -> None:
    shown = repeats({"ocr": 60, "vqa": 60}, {"ocr": 30, "vqa": 30}, 3).times(0)
    assert not np.array_equal(shown[:60], shown[60:])


@pytest.mark.parametrize("epoch", [0, 1, 4])
def test_equal_ratios_change_nothing(epoch: int) -> None:
    plain = Shuffled([{"row": row} for row in range(100)], 3)
    plain.set_epoch(epoch)
    assert shuffled(SIZES, epoch, seed=3) == plain.order


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_shows_the_rows_as_often_as_it_should(epoch: int) -> None:
    counts = {"ocr": 97, "vqa": 3}
    order = shuffled(counts, epoch)
    assert np.array_equal(np.bincount(order, minlength=100), repeats(SIZES, counts, 0).times(epoch))
    assert order == shuffled(counts, epoch, at_once=4)


def test_common_rows_come_in_the_plain_order() -> None:
    plain = shuffled(SIZES)
    order = shuffled({"ocr": 30, "vqa": 70})
    shown_once = {row for row in order if order.count(row) == 1}
    assert [row for row in order if row in shown_once] == [r for r in plain if r in shown_once]


def test_repeated_rows_come_at_the_same_places_for_any_ratio() -> None:
    one, other = (shuffled({"ocr": n, "vqa": 100 - n}) for n in (60, 70))
    common = {r for r in range(40) if one.count(r) == other.count(r) == 2}
    assert len(common) == 20
    assert [r for r in one if r in common] == [r for r in other if r in common]
    assert len({one.index(r) for r in common}) == 20


def test_repeats_are_spread_over_the_epoch() -> None:
    """A block of repeats at the end would be another curriculum."""
    counts = {"a": 9000, "b": 1000}
    drawn: Repeats = repeats({"a": 5000, "b": 5000}, counts, 0)
    generator = torch.Generator().manual_seed(0)
    order = drawn.order(torch.randperm(10000, generator=generator), 0, generator)
    tenths = np.array(order).reshape(10, 1000) < 5000
    assert np.all(np.abs(tenths.mean(axis=1) - 0.9) < 0.04)
