"""Work on many files at a time, which no thread that dies for lack of memory can hold up."""

from __future__ import annotations

import _thread
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

_PAUSE = 0.001  # seconds between looks at what the other threads still do
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(
    function: Callable[[_Item], _Result], items: Sequence[_Item], threads: int | None
) -> list[_Result]:
    """`[function(item) for item in items]`, several items at a time.

    The executors of Python lose the work of a thread that dies for lack of memory and wait for it
    for ever, as `Thread.start` may for one that dies at once. Here the calling thread works too,
    repeats what failed in another, and waits only for threads that are at work.

    Args:
        function: is called by several threads at the same time, and may be called twice with an
            item.
        threads: at most so many, the calling one included; fewer where the system gives no more.
            None is 1.

    Raises:
        Exception: what `function` raises in the calling thread.
    """
    work = _Work(function, items)
    with suppress(RuntimeError, MemoryError):  # no more threads: those that run do the work
        for _ in range(1, min(threads or 1, len(items))):
            _thread.start_new_thread(work.help, ())
    try:
        while (index := work.next()) is not None:
            work.do(index)
    finally:
        work.waiting.clear()
    while work.under_way:
        time.sleep(_PAUSE)
    for index in range(len(items)):
        if index not in work.results:
            work.do(index)
    return [work.results[index] for index in range(len(items))]


class _Work(Generic[_Item, _Result]):
    """Items and their results, shared by threads.

    Attributes:
        waiting: indices of the items that no thread has taken.
        under_way: indices of those that a thread of `help` is at.
        results: by index.
    """

    def __init__(self, function: Callable[[_Item], _Result], items: Sequence[_Item]) -> None:
        self._function = function
        self._items = items
        self.waiting = deque(range(len(items)))
        self.under_way: set[int] = set()
        self.results: dict[int, _Result] = {}

    def next(self) -> int | None:
        with suppress(IndexError):
            return self.waiting.popleft()
        return None

    def do(self, index: int) -> None:
        self.results[index] = self._function(self._items[index])

    def help(self) -> None:
        """What another thread does; an item that fails is left to the calling thread."""
        while (index := self.next()) is not None:
            with suppress(Exception):
                self.under_way.add(index)
                self.do(index)
            self.under_way.discard(index)
