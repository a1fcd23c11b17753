"""A disk that is full for a moment: one write of a process, or of those forked from it, fails."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from pathlib import Path
from typing import Any


class Writes:
    """Counts what the processes of a job write below a directory; one write fails.

    Libraries that write with other means than Python's, as safetensors does, are not seen: a small
    disk stops them.

    Attributes:
        count: of the writes until now.
    """

    def __init__(self, root: Path, fails: int) -> None:
        self.root = str(root)
        self.fails = fails
        self._shared = mmap.mmap(-1, 4)

    @property
    def count(self) -> int:
        return int.from_bytes(self._shared[:4], "little")

    def watch(self) -> None:
        """See the writes of this process, and of all that are forked from it."""
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        path = _written(event, arguments)
        if path is None or not path.startswith(self.root):
            return
        number = self.count + 1
        self._shared[:4] = number.to_bytes(4, "little")
        if number == self.fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def _written(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The path that an event of Python's audit hooks writes to; None if it writes nothing."""
    if event == "open":
        path, _, flags = arguments
        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return None
    elif event in ("os.mkdir", "os.rename"):
        path = arguments[event == "os.rename"]
        if event == "os.mkdir" and os.path.isdir(path):
            return None
    else:
        return None
    return None if isinstance(path, int) else os.path.abspath(os.fsdecode(path))
