"""Rows grouped by length within an optimizer step: the same rows per step, with less padding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.data.batches.grouping import GroupedByLength, StepLayout, grouped
from cotbal.data.batches.order import FILLER, Shuffled
from cotbal.data.batches.repeats import repeats

LAYOUTS = st.builds(StepLayout, st.integers(1, 5), st.integers(1, 3), st.integers(1, 4))
TOKENS = st.integers(1, 500)
ROWS = 53


def cut(values: Sequence[int], size: int) -> list[Sequence[int]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def padded(lengths: Sequence[int], rows: int) -> int:
    """Tokens of all micro-batches, padding included."""
    return sum(len(micro) * max(micro) for micro in cut(lengths, rows))


def of_ranks(lengths: Sequence[int], layout: StepLayout) -> list[list[int]]:
    """The length of every micro-batch of every rank, as ranks take them in turn."""
    longest = [max(micro) for micro in cut(lengths, layout.rows)]
    return [longest[rank :: layout.ranks] for rank in range(layout.ranks)]


def ordered(lengths: Sequence[int], layout: StepLayout) -> list[int]:
    return [lengths[row] for row in grouped(lengths, layout)]


@given(LAYOUTS, st.data())
def test_no_row_is_lost_and_none_is_added(layout: StepLayout, data: st.DataObject) -> None:
    """Also in a last step that is not full."""
    lengths = data.draw(st.lists(TOKENS, min_size=1, max_size=layout.size))
    assert sorted(grouped(lengths, layout)) == list(range(len(lengths)))


@given(LAYOUTS, st.data())
def test_padding_never_grows_in_a_whole_step(layout: StepLayout, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(TOKENS, min_size=layout.size, max_size=layout.size))
    assert padded(ordered(lengths, layout), layout.rows) <= padded(lengths, layout.rows)


@given(LAYOUTS, st.data())
def test_all_ranks_have_similar_lengths_at_a_time(layout: StepLayout, data: st.DataObject) -> None:
    """No micro-batch is shorter than the longest of the next round, so none is waited for longer
    than that.
    """
    lengths = data.draw(st.lists(TOKENS, min_size=layout.size, max_size=layout.size))
    rounds = [*zip(*of_ranks(ordered(lengths, layout), layout), strict=True)]
    for now, after in pairwise(rounds):
        assert min(now) >= max(after)


def test_no_rank_has_more_to_do_over_a_step() -> None:
    layout = StepLayout(2, 4, 6)
    lengths = list(range(layout.size))
    sums = [sum(of_rank) for of_rank in of_ranks(ordered(lengths, layout), layout)]
    assert len(set(sums)) == 1


def test_padding_falls_and_equal_rows_keep_their_order() -> None:
    lengths = [9, 1, 9, 1, 9, 1, 9, 1]
    layout = StepLayout(2, 1, 4)
    assert padded(lengths, 2) == 72
    assert padded(ordered(lengths, layout), 2) == 40
    assert grouped(lengths, layout) == [0, 2, 4, 6, 1, 3, 5, 7]


def items(count: int) -> list[dict[str, Any]]:
    return [{"row": row} for row in range(count)]


def length(row: Any) -> int:
    return 1 + row * 7 % 19


def by_step(rows: Shuffled | GroupedByLength, size: int) -> list[Counter[tuple[int, bool]]]:
    """The rows of every optimizer step, and whether they are fillers."""
    shown = [(rows[i]["row"], FILLER in rows[i]) for i in range(len(rows))]
    return [Counter(shown[start : start + size]) for start in range(0, len(shown), size)]


@pytest.mark.parametrize("layout", [StepLayout(4, 1, 3), StepLayout(2, 3, 2), StepLayout(1, 4, 5)])
@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("ratios", [False, True])
def test_every_step_has_the_rows_of_the_plain_order(
    layout: StepLayout, epoch: int, ratios: bool
) -> None:
    """With fillers of ranks, with rows that are repeated or left out, and in the last step."""
    sizes = {"a": 20, "b": ROWS - 20}
    drawn = repeats(sizes, {"a": 35, "b": ROWS - 35}, 0) if ratios else None
    at_once = layout.rows * layout.ranks if layout.ranks > 1 else 1
    plain, inner = (Shuffled(items(ROWS), 5, at_once, drawn) for _ in range(2))
    rows = GroupedByLength(inner, layout, length)
    plain.set_epoch(epoch)
    rows.set_epoch(epoch)
    assert len(rows) == len(plain)
    assert by_step(rows, layout.size) == by_step(plain, layout.size)
    assert len(plain) % layout.size, "the last step is not full"
    assert [rows[i]["row"] for i in range(len(rows))] != [
        plain[i]["row"] for i in range(len(plain))
    ]


def test_rows_do_not_depend_on_what_was_read_before() -> None:
    """As where a training resumes, or where processes share the micro-batches."""
    layout = StepLayout(3, 1, 4)
    straight, other = (GroupedByLength(Shuffled(items(ROWS), 1), layout, length) for _ in range(2))
    straight.set_epoch(2)
    expected = [straight[i] for i in range(ROWS)]
    other.set_epoch(1)
    assert [other[i] for i in range(ROWS)] != expected
    other.set_epoch(2)
    assert [other[i] for i in reversed(range(ROWS))] == expected[::-1]
    assert [other[i] for i in range(25, 40)] == expected[25:40]


def test_a_step_is_measured_once() -> None:
    measured: list[int] = []
    layout = StepLayout(3, 1, 4)
    rows = GroupedByLength(Shuffled(items(ROWS), 1), layout, lambda row: measured.append(row) or 1)
    for i in range(20):
        rows[i]
    assert len(measured) == 2 * layout.size
