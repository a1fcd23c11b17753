"""Processes that are forked from one with the imports of a command, which takes milliseconds.

A forked process differs from a fresh one in its parent only: it has the environment, the working
directory, the session and the log that a fresh one would have, and its memory and threads are its
own. Where a server cannot offer that, the command starts as an ordinary process.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from signal import SIGKILL, SIGTERM

from cotbal.jobs.executors import Job
from cotbal.jobs.launching import is_launched

SERVER = "cotbal.jobs.executors._fork_server"
POLL_SECONDS = 0.05


class Forked:
    """A forked process, with the part of `subprocess.Popen` that executors use.

    Attributes:
        returncode: as in `subprocess.Popen`.
        lost: whether it ended with its server or was never forked, so that its job has to restart.
    """

    def __init__(self, server: Server, number: int) -> None:
        self.returncode: int | None = None
        self.lost = False
        self._server = server
        self._number = number

    def poll(self) -> int | None:
        """The exit code if it has ended, negative if a signal ended it."""
        if self.returncode is None:
            self._server.receive()
            codes, number = self._server.codes, self._number
            self.lost = not self._server.alive if number not in codes else codes[number] is None
            self.returncode = -SIGKILL if self.lost else codes.get(number)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, as soon as it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not ended after so many seconds.
        """
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
            time.sleep(POLL_SECONDS)
        return code

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._signal(SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal(SIGKILL)

    def _signal(self, number: int) -> None:
        if self.poll() is not None:
            return
        if self._server.ready:
            self._server.send("signal", self._number, number)
        else:
            self._server.close()  # without it, this process will not be forked
            self.returncode = -number


class Server:
    """A process that has imported the modules of a job and forks."""

    def __init__(self, job: Job, environment: Mapping[str, str]) -> None:
        self.alive = True
        self.ready = False
        self.codes: dict[int, int | None] = {}
        self._fixed = _fixed(job, environment)
        self._numbers = 0
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setblocking(False)
        descriptor = str(theirs.fileno())
        with theirs, tempfile.TemporaryFile() as printed:
            self._process = subprocess.Popen(
                (job.command[0], "-m", SERVER, descriptor, *job.imports),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def fits(self, job: Job, environment: Mapping[str, str]) -> bool:
        """Whether a process that is forked here would be as a fresh one."""
        return self.alive and self._fixed == _fixed(job, environment)

    def fork(self, job: Job) -> Forked:
        """Start the job's command, at once or as soon as the modules are imported."""
        self._numbers += 1
        job.directory.mkdir(parents=True, exist_ok=True)
        log = str(job.directory.resolve() / "log.txt")
        self.send("run", self._numbers, job.command, log)
        return Forked(self, self._numbers)

    def send(self, *message: object) -> None:
        """Send a message. A server that does not take it is closed."""
        try:
            self._channel.send(json.dumps(message).encode())
        except OSError:
            self.close()

    def receive(self) -> None:
        """Read what the server has reported."""
        while self.alive:
            try:
                received = self._channel.recv(1024)
            except BlockingIOError:
                return
            except OSError:
                received = b""
            if not received:
                self.alive = False
                return
            number, code = json.loads(received)
            self.codes[number] = code
            self.ready = True

    def close(self) -> None:
        """End the server, and with it the processes that it has forked."""
        self.receive()
        self.alive = False
        self._channel.close()
        self._process.kill()
        self._process.wait()


class Forks:
    """The servers of an executor: one per set of GPUs, which a process sees from its start.

    Args:
        shared: whether there are jobs that would share the imports of a server.
    """

    def __init__(self, shared: bool) -> None:
        self._shared = shared
        self._servers: dict[str | None, Server] = {}

    def start(self, job: Job, environment: Mapping[str, str]) -> Forked | None:
        """Start a job, or return None where it needs a fresh process.

        Args:
            environment: all variables of the process.
        """
        if sys.platform != "linux" or not (self._shared and job.imports):
            return None
        if is_launched(job.needs):
            return None
        gpus = environment.get("CUDA_VISIBLE_DEVICES")
        try:
            if gpus not in self._servers:
                self._servers[gpus] = Server(job, environment)
            server = self._servers[gpus]
            return server.fork(job) if server.fits(job, environment) else None
        except OSError:  # a fresh process says what is wrong
            return None

    def close(self) -> None:
        """End all servers."""
        for server in self._servers.values():
            server.close()


def _fixed(job: Job, environment: Mapping[str, str]) -> tuple[object, ...]:
    """What a process has had since its start."""
    return job.command[:2], job.imports, dict(environment), Path.cwd()
