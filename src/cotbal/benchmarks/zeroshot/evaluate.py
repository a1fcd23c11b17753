"""`python -m cotbal.benchmarks.zeroshot.evaluate DIRECTORY COMMAND...`: run lmms-eval in place of
this process, with the lock of the directory of its results.

lmms-eval is in another environment, which need not have cotbal. The lock is that of an open file,
which the program inherits: while it lives, whatever became of the command that started it, nothing
else writes into the directory, and nobody archives it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from cotbal.training.environment import PARENT
from cotbal.training.run_paths import RunPaths

PR_SET_PDEATHSIG = 1  # of Linux: which signal a process gets when its parent ends


def main(arguments: Sequence[str]) -> None:
    """Lock the directory, and become the command."""
    directory, *command = arguments
    _lock(RunPaths(Path(directory)).lock)
    _end_with_parent()
    os.execvp(command[0], command)


def _lock(path: Path) -> None:
    import fcntl  # not on Windows

    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"{path.parent}: another evaluation still writes here")
    os.set_inheritable(descriptor, True)


def _end_with_parent() -> None:
    """Also if the parent is killed, where the system offers that."""
    parent = os.environ.get(PARENT)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it has ended before
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
