"""Jobs of a run directory that are in a queue (Slurm, Ray), and the commands that work there: their
status, and how to cancel them.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from cotbal import plugins
from cotbal.data.files import archive, is_locked, locked, read_json, write_json
from cotbal.errors import CotbalError, RunError
from cotbal.jobs.executors import (
    JobHandle,
    JobStatus,
    forget_handle,
    record_handle,
    recorded_handle,
)
from cotbal.jobs.rundir import RunDir, submissions
from cotbal.training.run_paths import RunPaths

STOP_SECONDS = 90.0  # for a command to stop all that it started, which may save first
END_SECONDS = 15.0  # for the worker of a job that was cancelled, or whose driver was killed


@dataclass(frozen=True)
class QueuedJob:
    """A job that was submitted to a queue; `status` is None where it is no longer in the queue."""

    directory: Path
    handle: JobHandle
    status: JobStatus | None


def queued(directories: Iterable[Path]) -> list[QueuedJob]:
    """Every job of these runs that was recorded, with its status.

    Raises:
        CotbalError: a queue does not answer.
    """
    handles = {directory: recorded_handle(directory) for directory in directories}
    recorded = [QueuedJob(path, handle, None) for path, handle in handles.items() if handle]
    jobs: list[QueuedJob] = []
    for executor, group in _by_executor(recorded):
        statuses = executor.statuses([job.handle.id for job in group])
        jobs += [replace(job, status=statuses.get(job.handle.id)) for job in group]
    return jobs


def _by_executor(jobs: Sequence[QueuedJob]) -> Iterator[tuple[ModuleType, list[QueuedJob]]]:
    for name in dict.fromkeys(job.handle.executor for job in jobs):
        group = [job for job in jobs if job.handle.executor == name]
        yield plugins.load("cotbal.jobs.executors", name), group


def cancel_jobs(jobs: Sequence[QueuedJob]) -> None:
    """Cancel jobs; their records are removed first, so that no driver submits them again.

    Raises:
        CotbalError: a queue does not cancel them; the records are back.
    """
    for job in jobs:
        forget_handle(job.directory)
    for executor, group in _by_executor([job for job in jobs if job.status is not None]):
        try:
            executor.cancel([job.handle.id for job in group])
        except CotbalError:
            for job in group:
                record_handle(job.directory, job.handle)
            raise


def release(directories: Sequence[Path]) -> None:
    """Cancel the jobs of runs that are about to be archived, and wait until their workers have
    ended: they write by path, so into the directory that replaces an archived one.

    Raises:
        CotbalError: a queue does not cancel a job, or a worker lives on.
    """
    cancel_jobs(queued(directories))
    deadline = time.monotonic() + END_SECONDS
    for directory in directories:
        _wait_for(RunPaths(directory).lock, "the worker of this run", END_SECONDS, deadline)


def archive_run(directory: Path) -> Path:
    """Archive a run. Its lock is held meanwhile, so no worker is in it; one that waits for the lock
    then has that of the run that replaces it, and reads its job after that.

    Raises:
        RunError: a worker has begun since `release`, and does not end.
    """
    lock = RunPaths(directory).lock
    try:
        with locked(lock, END_SECONDS):
            return archive(directory)
    except RunError:
        raise _in_use(lock, "the worker of this run", END_SECONDS) from None


def need_none_elsewhere(directories: Iterable[Path], executor: str) -> None:
    """Two queues must not work on one run.

    Raises:
        RunError: a job is alive in another queue than that of `executor`.
    """
    handles = {directory: recorded_handle(directory) for directory in directories}
    others = [path for path, handle in handles.items() if handle and handle.executor != executor]
    alive = [(job, job.status) for job in queued(others) if job.status is not None]
    if not alive:
        return
    job, status = alive[0]
    raise RunError(
        f"{job.directory}: this run is {status.state} elsewhere (job {job.handle.id} of"
        f" {job.handle.executor}), and {len(alive) - 1} others like it; continue with --on"
        f" {job.handle.executor}, or cancel them with `cotbal cancel` and the run directory",
        "run-in-use",
    )


def record_driver(path: Path, executor: str) -> None:
    """Record which process works in a directory, for `cotbal cancel`."""
    write_json(path, {"host": socket.gethostname(), "pid": os.getpid(), "executor": executor})


def cancel(root: RunDir) -> tuple[list[str], list[str]]:
    """Stop the commands that work in a run directory, and all its jobs in queues.

    Returns:
        Directories of the runs that were cancelled, and a remark about every command on another
        machine, which cannot be stopped from here.

    Raises:
        CotbalError: no run directory, or a queue does not answer.
    """
    planned = root.planned()
    answering = submissions(root)
    locks = {root.driver: root.lock}
    for paths in answering:
        locks[paths.driver] = paths.driver_lock
    remarks = _stop_drivers(locks)
    runs = [RunPaths(root.root / entry["directory"]) for entry in planned]
    jobs = queued(paths.root for paths in (*runs, *answering))
    cancel_jobs(jobs)
    alive = [job.directory for job in jobs if job.status is not None]
    return [str(path.relative_to(root.root)) for path in alive], remarks


def _stop_drivers(locks: Mapping[Path, Path]) -> list[str]:
    """Stop the commands of these records (record -> lock), each once, and wait until they release
    their locks.
    """
    pids: dict[Path, int] = {}
    remarks: dict[str, None] = {}
    for path, lock in locks.items():
        driver = read_json(path) if path.exists() else None
        if driver is None:
            continue
        host, pid = driver["host"], driver["pid"]
        if host != socket.gethostname():
            remarks[f"a command on {host} (process {pid}) may still work here; stop it there"] = (
                None
            )
        elif is_locked(lock):
            pids[lock] = pid
    for pid in dict.fromkeys(pids.values()):
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for lock, pid in pids.items():
        _wait_for(lock, f"process {pid}", STOP_SECONDS, deadline)
    return list(remarks)


def _wait_for(lock: Path, who: str, seconds: float, deadline: float) -> None:
    while is_locked(lock):
        if time.monotonic() > deadline:
            raise _in_use(lock, who, seconds)
        time.sleep(0.1)


def _in_use(lock: Path, who: str, seconds: float) -> RunError:
    return RunError(
        f"{lock.parent}: {who} did not end within {seconds:.0f} s; end it, or wait for it, then"
        " rerun this command",
        "run-in-use",
    )
