"""`python -m MODULE`, forked from a process that has its imports: torch and transformers take 8
seconds of every fresh one.

Fresh ones are tested in tests/unit/data/test_lengths.py, tests/unit/executors/test_forks.py and
tests/e2e/test_main_job.py.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, NoReturn

from cotbal.data.batches import lengths
from cotbal.jobs.executors import _forks


def install() -> None:
    """Fork what measures records, and what forks runs, from this process."""
    lengths.subprocess = _forks.subprocess = forking()  # type: ignore[attr-defined]


def forking() -> SimpleNamespace:
    """The module `subprocess`, with a `Popen` that forks."""
    return SimpleNamespace(**{**vars(subprocess), "Popen": Forked})


class Forked(subprocess.Popen):  # type: ignore[type-arg]
    """A `Popen` of `python -m MODULE ...` that forks and executes no program."""

    def __init__(self, argv: Sequence[str], *, start_new_session: bool = False, **more: Any):
        self._session = start_new_session
        super().__init__(argv, **more)

    def _execute_child(self, argv: Sequence[str], *details: Any) -> None:
        """Called by `Popen` with its arguments, among them the ends of its pipes."""
        kept, environment, pipes = details[3], details[5], details[9:15]
        self.pid = os.fork()
        if self.pid == 0:
            _, flag, *words = argv
            assert flag == "-m"
            _become((pipes[0], pipes[3], pipes[5]), kept)
            _execute(words, environment, self._session)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _become(standard: Sequence[int], kept: Collection[int]) -> None:
    """Take the standard files, -1 for those of the parent, and close all others."""
    for number, descriptor in enumerate(standard):
        if descriptor >= 0:
            os.dup2(descriptor, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with suppress(OSError):
                os.close(int(name))


def _execute(words: list[str], environment: Mapping[str, str] | None, session: bool) -> NoReturn:
    code = 1
    try:
        if session:
            os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, closefd=False)  # noqa: SIM115
            for number, mode in enumerate("rww")
        )
        if environment is not None:
            os.environ.clear()
            os.environ.update(environment)
        sys.argv = words
        with warnings.catch_warnings(action="ignore"):  # that it is imported already
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException as error:
        # Not `sys.excepthook`: a library of the parent may have replaced it.
        sys.__excepthook__(type(error), error, error.__traceback__)
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
