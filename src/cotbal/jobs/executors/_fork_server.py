"""`python -m cotbal.jobs.executors._fork_server DESCRIPTOR MODULE...`: import the modules once, and
fork a process for every command that the driver sends. `_forks` is the driver's end.

Messages are JSON. The driver sends `["run", number, argv, log]` and `["signal", number, signal]`.
It receives `[0, 0]` when the modules are imported, and `[number, exit code]` when a process ends;
the code is None if it could not be forked. A server that cannot fork safely exits instead.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import socket
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from signal import SIGKILL

from cotbal.jobs.begin import begin
from cotbal.training.parent import Watch

MESSAGE_BYTES = 1 << 16
POLL_SECONDS = 0.05
PR_SET_PDEATHSIG = 1  # an option of prctl
# A process that has opened one of these has initialised its GPU, which its children cannot use.
GPU_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri")
FORKABLE_THREADS = ("jemalloc_bg_thd",)  # of pyarrow; jemalloc stops it before a fork


def main(arguments: Sequence[str]) -> None:
    """Serve until the driver has gone; in a forked process, execute its command."""
    channel = socket.socket(fileno=int(arguments[0]))
    watch = Watch()
    for module in arguments[1:]:
        importlib.import_module(module)
    watch.stop()
    if _fork() == 0:  # OpenBLAS ends its idle threads before a fork
        os._exit(0)
    os.wait()
    if reason := why_not_forkable():
        sys.exit(reason)
    gc.collect()
    gc.freeze()  # a collection in a child would copy the pages that it shares
    channel.send(b"[0, 0]")
    command = _Server(channel).serve()
    if command is not None:
        begin(command[2], command[3:])  # what follows `python -m`


def why_not_forkable(process: Path = Path("/proc/self")) -> str | None:
    """Why children of a process could differ from fresh processes; None if they would not."""
    names = [task.read_text().strip() for task in process.glob("task/*/comm")]
    threads = [name for name in names if name not in FORKABLE_THREADS]
    if len(threads) > 1:
        return f"{len(threads)} threads are running"
    targets = [os.readlink(link) for link in process.glob("fd/*") if link.is_symlink()]
    if any(target.startswith(GPU_DEVICES) for target in targets):
        return "a GPU is initialised"
    return None


class _Server:
    """The processes that were forked and have not ended."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.pids: dict[int, int] = {}  # number of a command -> its process

    def serve(self) -> list[str] | None:
        """Serve until the driver has gone. Returns the command in a forked process, else None."""
        while True:
            if select.select([self.channel], [], [], POLL_SECONDS)[0]:
                received = self.channel.recv(MESSAGE_BYTES)
                if not received:
                    return None
                kind, number, *details = json.loads(received)
                if kind == "run" and self._fork(number, details[1]):
                    return list(details[0])
                if kind == "signal" and number in self.pids:
                    os.kill(self.pids[number], details[0])
            self._report_ended()

    def _fork(self, number: int, log: str) -> bool:
        """Whether this is the forked process."""
        server = os.getpid()
        try:
            pid = _fork()
        except OSError:
            self._report(number, None)
            return False
        if pid:
            self.pids[number] = pid
            return False
        self.channel.close()
        _detach(server, log)
        return True

    def _report_ended(self) -> None:
        for number, pid in list(self.pids.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self.pids[number]
                self._report(number, os.waitstatus_to_exitcode(status))

    def _report(self, number: int, code: int | None) -> None:
        self.channel.send(json.dumps([number, code]).encode())


def _fork() -> int:
    with warnings.catch_warnings(action="ignore"):  # from Python 3.12 on, of jemalloc's thread
        return os.fork()


def _detach(server: int, log: str) -> None:
    """Give a forked process its session and its log, and let it end with the server."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != server:  # the server ended before
        os._exit(1)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    printed = os.pread(1, os.fstat(1).st_size, 0)  # what the imports have printed
    os.write(descriptor, printed)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


if __name__ == "__main__":
    main(sys.argv[1:])
