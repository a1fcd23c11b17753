"""One worker process per device on this machine; without GPUs, the CPU cores are divided among
workers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cotbal.errors import CotbalError
from cotbal.jobs.begin import BEGIN
from cotbal.jobs.executors import Job, Outcome, Resources, log_tail, thread_environment
from cotbal.jobs.executors._forks import Forked, Forks
from cotbal.jobs.launching import launched
from cotbal.training.environment import PARENT, PREEMPTIBLE

CPU_WORKERS = 2  # two processes of half the cores each beat one with all of them for small models
SAVE_SECONDS = 60.0  # for a worker to end its optimizer step and to save a checkpoint


@dataclass(frozen=True)
class Slots:
    """What jobs can take on this machine: one slot per GPU, otherwise shares of the CPU cores.

    Attributes:
        devices: id of the GPU of every slot, None for a share of the cores.
        threads: CPU threads per slot.
    """

    devices: tuple[str | None, ...]
    threads: int


@dataclass(eq=False)
class _Running:
    job: Job
    devices: list[str | None]
    process: subprocess.Popen[bytes] | Forked
    started: float
    helped: _Running | None = None  # by this process, which then has no outcome
    helpers: int = 0  # started so far

    @property
    def lost(self) -> bool:
        """Whether its process ended only because the one that forked it did."""
        return isinstance(self.process, Forked) and self.process.lost


def run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    """Run the jobs, the longest first, as many at a time as there are slots.

    Raises:
        CotbalError: a job needs several nodes, or more GPUs than this machine has.
    """
    largest = max(map(_slots_of, jobs), default=1)
    if any(job.needs.nodes > 1 for job in jobs):
        raise CotbalError(
            "resources.nodes: expected 1 on this machine; found more: use --on slurm or --on ray",
            "several-nodes",
        )
    if largest == 1:
        helped = any(job.helper is not None for job in jobs)
        slots = available(resources, sys.maxsize if helped else len(jobs))
        return _Machine(jobs, resources, slots, len(slots.devices)).outcomes()
    gpus = visible_gpus()
    if largest > len(gpus):
        raise CotbalError(
            f"resources.gpus: expected at most the {len(gpus)} GPUs of this machine; found"
            f" {largest} (several processes without GPUs: gpus: 0 and ranks)",
            "too-few-gpus",
        )
    slots = available(replace(resources, workers=None), len(gpus))
    return _Machine(jobs, resources, slots, resources.workers or len(gpus)).outcomes()


class _Machine:
    """Jobs that run here, and processes that help them once no other job is left.

    Args:
        slots: what the jobs can take.
        workers: how many processes run at the same time.
    """

    def __init__(
        self, jobs: Sequence[Job], resources: Resources, slots: Slots, workers: int
    ) -> None:
        self._resources, self._slots, self._workers = resources, slots, workers
        self._waiting = sorted(jobs, key=lambda job: -job.cost)
        self._free = list(slots.devices)
        self._running: list[_Running] = []
        runs = max(len(jobs), len(self._free))
        self._forks = Forks(runs > len(set(self._free)))

    def outcomes(self) -> Iterator[Outcome]:
        """Run the jobs, the longest first."""
        with closing(self._forks):
            try:
                while self._waiting or self._running:
                    yield from self._start_jobs()
                    self._start_helpers()
                    ended = [one for one in self._running if one.process.poll() is not None]
                    for one in ended:
                        yield from self._end(one)
                    if not ended:
                        time.sleep(0.05)
            finally:
                stop([one.process for one in self._running], SAVE_SECONDS)

    def _start_jobs(self) -> Iterator[Outcome]:
        """Start what there is room for; yields the jobs that cannot start."""
        while self._has_room and (job := _next(self._waiting, len(self._free))) is not None:
            self._waiting.remove(job)
            if job.helper is not None:
                job.helper.wanted.unlink(missing_ok=True)  # left by a killed process
            try:
                self._start(job)
            except OSError as error:
                yield Outcome(job, False, 0.0, f"{job.name} could not start: {error}")

    def _start_helpers(self) -> None:
        """Let free slots help the jobs that have work for them.

        A helper that has ended is not replaced: it found no more work, or it failed.
        """
        for one in list(self._running):
            if self._waiting or not (self._has_room and self._free):
                return
            helper = one.job.helper
            if helper is None or one.helpers + 1 >= len(self._slots.devices):
                continue
            if helper.wanted.exists():
                one.helpers += 1
                with suppress(OSError):  # the job does its work itself
                    self._start(replace(one.job, command=helper.command, helper=None), one)

    @property
    def _has_room(self) -> bool:
        return len(self._running) < self._workers

    def _start(self, job: Job, helped: _Running | None = None) -> None:
        count = _slots_of(job)
        taken, self._free = self._free[:count], self._free[count:]
        try:
            with uninterrupted():
                process = _start(job, taken, self._slots.threads, self._resources, self._forks)
                self._running.append(_Running(job, taken, process, time.monotonic(), helped))
        except OSError:
            self._free += taken
            raise

    def _end(self, ended: _Running) -> Iterator[Outcome]:
        """Free the slots of a process that has ended, and of those that helped it."""
        helpers = [one for one in self._running if one.helped is ended]
        stop([one.process for one in helpers], 0.0)
        for one in (ended, *helpers):
            if one in self._running:
                self._running.remove(one)
                self._free += one.devices
        if ended.helped is None and ended.lost:
            self._waiting.insert(0, ended.job)
        elif ended.helped is None:
            yield _outcome(ended)


def _slots_of(job: Job) -> int:
    return max(job.needs.gpus, 1)


def _next(waiting: Sequence[Job], free: int) -> Job | None:
    """The longest job that fits into the free slots."""
    return next((job for job in waiting if _slots_of(job) <= free), None)


def available(resources: Resources, jobs: int) -> Slots:
    """The slots for so many jobs of this machine; a job of several GPUs takes several."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    gpus = visible_gpus()
    count = resources.workers or len(gpus) or min(CPU_WORKERS, cores)
    threads = resources.threads or max(1, cores // count)
    used = range(min(count, max(jobs, 1)))
    if not gpus:
        return Slots((None,) * len(used), threads)
    return Slots(tuple(gpus[i % len(gpus)] for i in used), threads)


def visible_gpus() -> list[str]:
    """Ids of the NVIDIA GPUs that this process may use, as the driver lists them: this needs no
    torch.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [device for device in chosen.split(",") if device.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        return []
    return [str(i) for i, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU")]


def _start(
    job: Job, taken: list[str | None], threads: int, resources: Resources, forks: Forks
) -> subprocess.Popen[bytes] | Forked:
    share = max(1, threads * len(taken) // job.needs.processes)
    environment = {**thread_environment(resources.threads or share), **resources.environment}
    gpus = [device for device in taken if device is not None]
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    return forked_or_fresh(job, launched(job.command, job.needs), environment, forks)


def _outcome(ended: _Running) -> Outcome:
    seconds = time.monotonic() - ended.started
    code = ended.process.wait()
    message = "" if code == 0 else failure(ended.job, code)
    return Outcome(ended.job, code == 0, seconds, message)


def forked_or_fresh(
    job: Job, command: Sequence[str], environment: Mapping[str, str], forks: Forks
) -> subprocess.Popen[bytes] | Forked:
    """Start a job: forked from a server, or by the command that starts it where that is not
    possible; see `start`.
    """
    forked = forks.start(job, _variables(environment))
    return forked or start(command, job.directory, environment)


def start(
    command: Sequence[str], directory: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a command that appends its output to `log.txt` of its directory; if it is
    `python -m module arguments`, it ends with this process.

    Args:
        environment: variables beside those of this process.

    Raises:
        OSError: there is no such program, or the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    python, *rest = command
    if rest[:1] == ["-m"]:
        command = [python, "-m", BEGIN, *rest[1:]]
    with (directory / "log.txt").open("ab") as log:
        # A session of its own: Ctrl-C reaches the driver alone, which stops its workers in order.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_variables(environment),
            start_new_session=True,
        )


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """All variables of a process that ends with this one."""
    return {**os.environ, **environment, PREEMPTIBLE: "1", PARENT: str(os.getpid())}


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Deliver SIGINT and SIGTERM after the block: a process that is being started would be lost."""
    if threading.current_thread() is not threading.main_thread():
        yield  # other threads receive no signals
        return
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda got, _: received.append(got)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        for signum in received:
            signal.raise_signal(signum)


def stop(processes: Sequence[subprocess.Popen[bytes] | Forked], grace: float) -> None:
    """Terminate every process, and kill those that still run after `grace` seconds, or when this is
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


def failure(job: Job, code: int) -> str:
    """Why a job failed, with the tail of its log; `code` is negative if a signal ended it."""
    how = f"ended with exit code {code}"
    if code < 0:
        how = f"was killed by signal {signal.Signals(-code).name}"
    return f"{job.name} {how}\n{log_tail(job.directory / 'log.txt')}"
