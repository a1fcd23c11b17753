"""Work in threads, some of which die or never start."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable

import pytest

from cotbal.data.threads import in_threads

ITEMS = range(50)
SQUARES = [item**2 for item in ITEMS]


def test_results_are_in_the_order_of_the_items() -> None:
    meeting = threading.Barrier(3, timeout=60)

    def square(item: int) -> int:
        if item < 3:
            meeting.wait()  # three threads are at work at the same time
        return item**2

    assert in_threads(square, ITEMS, 3) == SQUARES


@pytest.mark.parametrize("threads", [None, 0, 1])
def test_one_thread_is_the_calling_one(threads: int | None) -> None:
    at_work = set(in_threads(lambda _item: threading.get_ident(), ITEMS, threads))
    assert at_work == {threading.get_ident()}


def test_without_items() -> None:
    assert in_threads(lambda item: item, [], 8) == []


def test_work_of_a_thread_that_dies_is_done_all_the_same() -> None:
    caller = threading.get_ident()
    began = threading.Event()

    def square(item: int) -> int:
        if threading.get_ident() != caller:
            began.set()
            raise MemoryError
        assert began.wait(60)
        return item**2

    assert in_threads(square, ITEMS, 4) == SQUARES


def never_starts(_function: Callable[[], None], _arguments: tuple[()]) -> None:
    """A thread that dies for lack of memory before it does anything."""


def refused(_function: Callable[[], None], _arguments: tuple[()]) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("start", [never_starts, refused])
def test_threads_that_do_not_start(
    start: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_thread, "start_new_thread", start)
    assert in_threads(lambda item: item**2, ITEMS, 4) == SQUARES


def test_an_error_reaches_the_caller() -> None:
    def fails(item: int) -> int:
        if item == 7:
            raise OSError("unreadable")
        return item

    with pytest.raises(OSError, match="unreadable"):
        in_threads(fails, ITEMS, 4)
