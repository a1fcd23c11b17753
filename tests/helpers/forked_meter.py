"""The process that measures records, forked from one that has its imports.

A fresh one spends 8 seconds on torch and transformers; `tests/unit/data/test_lengths.py` starts it.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from types import SimpleNamespace
from typing import IO, Any, NoReturn

from cotbal.data.batches import lengths, row_lengths


class ForkedMeter:
    """The part of `subprocess.Popen` that `lengths` uses."""

    def __init__(self, argv: Sequence[str], *, stderr: IO[bytes], **_pipes: Any) -> None:
        assert argv[1:] == ["-m", row_lengths.__name__]
        questions, asking = os.pipe()
        receiving, replies = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(asking)
            os.close(receiving)
            _measure(questions, replies, stderr.fileno())
        os.close(questions)
        os.close(replies)
        self.stdin, self.stdout = os.fdopen(asking, "wb"), os.fdopen(receiving, "rb")

    def communicate(self) -> None:
        """Let it end with its input, and wait for it."""
        self.stdin.close()
        self.stdout.close()
        os.waitpid(self._pid, 0)


def _measure(*descriptors: int) -> NoReturn:
    """Standard input, output and errors are these descriptors."""
    code = 1
    try:
        for standard, descriptor in enumerate(descriptors):
            os.dup2(descriptor, standard)
        sys.stdin = open(0)  # noqa: SIM115
        row_lengths.main()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def install() -> None:
    """Fork meters of this process, which has imported torch and transformers."""
    lengths.subprocess = SimpleNamespace(Popen=ForkedMeter, PIPE=None)  # type: ignore[attr-defined]
