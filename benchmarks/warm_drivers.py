"""Commands and workers that are forked from this process, which has imported what they need.

A campaign starts thousands of processes, and each would import torch for seconds. Here the driver
of a job is forked, and so is every process that it starts with `python -m MODULE`: the executor,
its fork server and the workers are those of a user, only their imports are already done.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

POLL_SECONDS = 0.01
STOPPING = (signal.SIGINT, signal.SIGTERM)


def preload() -> None:
    """Import what drivers and workers import."""
    import torch.distributed.run
    import transformers.models.llava.modeling_llava
    import transformers.trainer

    import cotbal.cli.app
    import cotbal.jobs.worker
    import cotbal.report  # noqa: F401

    assert torch.distributed.run
    assert transformers.trainer


class Process:
    """A forked process, with the part of `subprocess.Popen` that executors use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (1e9 if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a forked process", timeout or 0)
            time.sleep(POLL_SECONDS)
        return code

    def send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        self.send(signal.SIGKILL)


def forked(work: Any, log: int, keep: Sequence[int] = (), session: bool = True) -> Process:
    """Start `work()` in a process of its own; what it prints is added to the descriptor `log`."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Process(pid)
    code = 1
    try:
        if session:
            os.setsid()
        _own_descriptors(log, keep)
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _own_descriptors(log: int, keep: Sequence[int]) -> None:
    """Close what another program would not inherit, such as locks."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor not in keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def popen(args: Sequence[str], **options: Any) -> Any:
    """As `subprocess.Popen`, for `python -m module arguments`."""
    module, arguments = _command(args)
    if module not in (BEGIN, SERVER):
        return subprocess.Popen(args, **options)

    def work() -> None:
        from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

        from cotbal.jobs.begin import begin
        from cotbal.jobs.executors import _fork_server

        os.environ.clear()
        os.environ.update(options["env"])
        subprocess_handler.Popen = popen  # torchrun starts ranks with it
        if module == SERVER:
            _fork_server.main(arguments)
        else:
            begin(arguments[0], arguments[1:])

    log = options["stdout"]
    return forked(work, 1 if log is None else log.fileno(), options.get("pass_fds", ()))


def _command(args: Sequence[str]) -> tuple[str, list[str]]:
    """Module and arguments of `python -m module arguments`."""
    if "-m" not in args:
        return "", []
    _, module, *arguments = args[args.index("-m") :]
    return module, arguments


BEGIN = "cotbal.jobs.begin"
SERVER = "cotbal.jobs.executors._fork_server"


def driver(
    arguments: Sequence[str | Path],
    printed: Path,
    variables: Mapping[str, str],
    prepare: Callable[[], None] = lambda: None,
) -> Process:
    """Start a command of cotbal.

    Args:
        printed: file that gets what it prints.
        variables: beside those of this process.
        prepare: called in the new process first; what it changes holds in all that it starts.
    """

    def work() -> None:
        from cotbal.cli.app import main
        from cotbal.jobs.executors import _forks, processes

        os.environ.update(variables)
        names = {name: getattr(subprocess, name) for name in ("DEVNULL", "TimeoutExpired", "run")}
        warm = SimpleNamespace(Popen=popen, **names)
        _forks.subprocess = processes.subprocess = warm
        sys.argv = ["cotbal", *map(str, arguments)]
        prepare()
        main()

    with printed.open("ab") as log:
        return forked(work, log.fileno())


def below(pid: int) -> list[psutil.Process]:
    """All processes that descend from a process."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended."""
    running = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
    return running
