from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cotbal.errors import CotbalError
from helpers.errors import raises
from list_scheduling import Piece, lower_bound, makespan, schedule

PIECES = st.lists(st.builds(Piece, st.floats(0.1, 100), st.integers(1, 4)), max_size=12)


def test_the_longest_goes_first() -> None:
    pieces = [Piece(2), Piece(3), Piece(7), Piece(4)]
    assert schedule(pieces, 2) == [7, 4, 0, 0]
    assert makespan(pieces, 2) == 9
    assert lower_bound(pieces, 2) == 8


def test_a_short_piece_passes_one_that_waits_for_more_gpus() -> None:
    pieces = [Piece(5, 3), Piece(4, 2), Piece(1, 1)]
    assert schedule(pieces, 4) == [0, 5, 0]
    assert makespan(pieces, 4) == 9


def test_in_the_order_given() -> None:
    pieces = [Piece(2), Piece(3), Piece(7), Piece(4)]
    assert schedule(pieces, 2, [0, 1, 2, 3]) == [0, 0, 2, 3]
    assert makespan(pieces, 2, [0, 1, 2, 3]) == 9
    assert makespan(pieces, 2, [0, 1, 3, 2]) == 10


def test_what_is_left_of_a_piece_starts_after_its_delay() -> None:
    """The short one takes the GPU in between, and is not interrupted."""
    pieces = [Piece(4), Piece(5, after=0, delay=2), Piece(3)]
    assert schedule(pieces, 1, [1, 0, 2]) == [0, 7, 4]
    assert schedule(pieces[:2], 1) == [0, 6]
    assert lower_bound(pieces, 1) == 12
    assert lower_bound(pieces, 2) == 11  # the chain with its delay


def test_one_piece_alone_or_none() -> None:
    assert makespan([], 8) == lower_bound([], 8) == 0
    assert makespan([Piece(3, 8)], 8) == lower_bound([Piece(3, 8)], 8) == 3


def test_a_piece_that_is_too_large_is_rejected() -> None:
    with raises(CotbalError, "too-few-gpus", 8, 4):
        schedule([Piece(1, 1), Piece(1, 8)], 4)


@given(pieces=PIECES, gpus=st.integers(4, 9))
def test_no_more_gpus_are_held_than_there_are(pieces: list[Piece], gpus: int) -> None:
    starts = schedule(pieces, gpus)
    for moment in starts:
        held = [p.gpus for p, s in zip(pieces, starts, strict=True) if s <= moment < s + p.seconds]
        assert sum(held) <= gpus
    assert makespan(pieces, gpus) >= lower_bound(pieces, gpus) * (1 - 1e-9)


@given(seconds=st.lists(st.floats(0.1, 100), min_size=1, max_size=30), gpus=st.integers(1, 9))
def test_graham_s_bound(seconds: list[float], gpus: int) -> None:
    """List scheduling ends within 2 - 1/gpus of the lower bound, whatever the order."""
    pieces = [Piece(s) for s in seconds]
    assert makespan(pieces, gpus) <= (2 - 1 / gpus) * lower_bound(pieces, gpus) * (1 + 1e-9)
