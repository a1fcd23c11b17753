"""Shares of the questions of a run, which its process offers to processes that have no run left.

The process of the run writes a queue. Every process takes the next share that nobody has: it locks
the byte of that number in the queue, which the system releases when the process ends, in any way.
A helper writes the answers of a share as a file of kept answers. What a helper took and did not
write, the process of the run answers itself. All of them make the same shares, so who answers one
changes no answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cotbal.data.files import write_sealed, write_sealed_rows
from cotbal.jobs.kept_answers import Key, read_answers

POLL_SECONDS = 0.05


class Shares:
    """The shares of a queue.

    Args:
        queue: its file, beside the kept answers.
        attempt: names the files of answers.
        keys: of all questions, in their order.
    """

    def __init__(self, queue: Path, attempt: str, keys: Sequence[Key]) -> None:
        self._queue = queue
        self._attempt = attempt
        self._keys = keys
        self._descriptor = os.open(queue, os.O_RDWR)

    def close(self) -> None:
        """Release the locks."""
        os.close(self._descriptor)

    def _is_taken(self, number: int) -> bool:
        """Take a share, unless another process has it or has answered it."""
        import fcntl  # not on Windows, where nothing is offered

        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):
            return False
        return not self._answers(number).exists()

    def _answers(self, number: int) -> Path:
        return self._queue.with_name(f"{self._attempt}-share-{number}.jsonl")


class OfferedShares(Shares):
    """Those of the process of the run, which sees to it that every share is answered.

    Args:
        wait: called while helpers answer the last shares; an exception ends this.

    Attributes:
        others: fraction of the shares that other processes took.
    """

    def __init__(
        self, queue: Path, attempt: str, keys: Sequence[Key], wait: Callable[[], None]
    ) -> None:
        super().__init__(queue, attempt, keys)
        self.others = 0.0
        self._wait = wait
        self._index = {key: index for index, key in enumerate(keys)}
        self._received: dict[int, str] = {}

    def close(self) -> None:
        """Withdraw the offer, before a helper can take what this process had."""
        self._queue.unlink(missing_ok=True)
        super().close()

    def taken(self, count: int) -> Iterator[int]:
        """The shares that this process has to answer, one at a time."""
        left = []
        for number in range(count):
            if self._is_taken(number):
                yield number
            else:
                left.append(number)
                self.others = len(left) / count
        for number in left:
            while not self._is_received(number):
                if self._is_taken(number):  # its helper has ended
                    yield number
                    break
                self._wait()
                time.sleep(POLL_SECONDS)

    def received(self) -> Mapping[int, str]:
        """The answers of helpers, by index of their question."""
        return self._received

    def _is_received(self, number: int) -> bool:
        path = self._answers(number)
        answers = read_answers(path) if path.exists() else None
        if answers is None:
            return False
        for key, text in answers.items():
            self._received[self._index[key]] = text
        return True


class HelperShares(Shares):
    """Those of a process that helps."""

    def __init__(self, queue: Path, attempt: str, keys: Sequence[Key]) -> None:
        super().__init__(queue, attempt, keys)
        self._new: dict[int, str] = {}

    def taken(self, count: int) -> Iterator[int]:
        """The shares to answer, until none is left or the offer is withdrawn."""
        for number in range(count):
            if not self._is_taken(number):
                continue
            if not self._queue.exists():
                return
            self._new.clear()
            yield number
            rows = [[*self._keys[index], text] for index, text in self._new.items()]
            write_sealed_rows(self._answers(number), rows)

    def add(self, answers: Mapping[int, str]) -> None:
        """Take answers of the share that was taken last, by index of their question."""
        self._new |= answers

    def received(self) -> Mapping[int, str]:
        """Nothing: the process of the run has the other answers."""
        return {}


def write_offer(
    queue: Path, attempt: str, keys: Sequence[Key], known: Collection[int] = (), **facts: Any
) -> None:
    """Write a queue, with what a helper has to know beside the job."""
    write_sealed(queue, {"attempt": attempt, "questions": digest(keys, known), **facts})


def digest(keys: Sequence[Key], known: Collection[int]) -> str:
    """Of the questions, their order, and which of them have an answer: they decide what is in a
    share.
    """
    return hashlib.sha256(json.dumps([keys, sorted(known)]).encode()).hexdigest()
