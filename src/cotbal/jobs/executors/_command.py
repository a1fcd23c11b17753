"""A job's command as a process of this machine: started with its log, stopped in order, and how it
ended in words.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cotbal.jobs.executors import log_tail
from cotbal.training.environment import PARENT

SAVE_SECONDS = 60.0  # for a worker to end its optimizer step and to save what it has reached


def start(
    command: Sequence[str], directory: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a command whose output is appended to `log.txt` of its directory, and which is not to
    outlive this process.

    Args:
        environment: variables beside those of this process.

    Raises:
        OSError: there is no such program, or the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "log.txt").open("ab") as log:
        # A session of its own: Ctrl-C reaches the driver alone, which then stops its workers in
        # order.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment, PARENT: str(os.getpid())},
            start_new_session=True,
        )


def stop(processes: Sequence[subprocess.Popen[bytes]], grace: float = SAVE_SECONDS) -> None:
    """Ask every process to end, and kill those that have not after `grace` seconds, or when this is
    interrupted.
    """
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + grace
    try:
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()  # does nothing to those that have ended
            process.wait()


def failure(name: str, code: int, directory: Path) -> str:
    """Why a job failed, with the tail of its log; `code` is negative if a signal ended it."""
    how = (
        f"was killed by signal {signal.Signals(-code).name}"
        if code < 0
        else f"ended with exit code {code}"
    )
    return f"{name} {how}\n{log_tail(directory / 'log.txt')}"
