"""Jobs of a run directory that are in a queue (Slurm, Ray), and the commands that work there: their
status, and how to cancel them.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cotbal import plugins
from cotbal.data.files import is_locked, read_json, write_json
from cotbal.errors import CotbalError, RunError
from cotbal.jobs.executors import (
    JobHandle,
    JobStatus,
    forget_handle,
    record_handle,
    recorded_handle,
)
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.submission_paths import submissions
from cotbal.training.run_paths import RunPaths

STOP_SECONDS = 90.0  # for a command to stop all that it started, which may save first


@dataclass(frozen=True)
class QueuedJob:
    """A job that was submitted to a queue; `status` is None where the queue no longer knows it."""

    directory: Path
    handle: JobHandle
    status: JobStatus | None


def queued(directories: Iterable[Path]) -> list[QueuedJob]:
    """Every job of these runs that was recorded, with its status.

    Raises:
        CotbalError: a queue does not answer.
    """
    handles: dict[Path, JobHandle] = {}
    for directory in directories:
        handle = recorded_handle(directory)
        if handle is not None:
            handles[directory] = handle
    known: dict[JobHandle, JobStatus] = {}
    for executor in dict.fromkeys(handle.executor for handle in handles.values()):
        ids = [handle.id for handle in handles.values() if handle.executor == executor]
        statuses = plugins.load("cotbal.jobs.executors", executor).statuses(ids)
        known |= {JobHandle(executor, id): status for id, status in statuses.items()}
    return [QueuedJob(path, handle, known.get(handle)) for path, handle in handles.items()]


def cancel_jobs(jobs: Sequence[QueuedJob]) -> None:
    """Cancel jobs; their records are removed first, so that no driver submits them again.

    Raises:
        CotbalError: a queue does not cancel them; the records are back.
    """
    for job in jobs:
        forget_handle(job.directory)
    alive = [job for job in jobs if job.status is not None]
    for executor in dict.fromkeys(job.handle.executor for job in alive):
        group = [job for job in alive if job.handle.executor == executor]
        try:
            plugins.load("cotbal.jobs.executors", executor).cancel([j.handle.id for j in group])
        except CotbalError:
            for job in group:
                record_handle(job.directory, job.handle)
            raise


def need_none_elsewhere(directories: Iterable[Path], executor: str) -> None:
    """Two queues must not work on one run.

    Raises:
        RunError: a job is alive in another queue than that of `executor`.
    """
    jobs = queued(path for path in directories if _is_elsewhere(path, executor))
    alive = [job for job in jobs if job.status is not None]
    if not alive:
        return
    first = alive[0]
    state = "running" if first.status and first.status.state == "running" else "queued"
    raise RunError(
        f"{first.directory}: this run is {state} elsewhere (job {first.handle.id} of"
        f" {first.handle.executor}), and {len(alive) - 1} others like it; continue with --on"
        f" {first.handle.executor}, or cancel them with `cotbal cancel` and the run directory"
    )


def _is_elsewhere(directory: Path, executor: str) -> bool:
    handle = recorded_handle(directory)
    return handle is not None and handle.executor != executor


def record_driver(note: Path, executor: str) -> None:
    """Note which process works in a directory, for `cotbal cancel`."""
    write_json(note, {"host": socket.gethostname(), "pid": os.getpid(), "executor": executor})


def cancel(root: RunDir) -> tuple[list[str], list[str]]:
    """Stop the commands that work in a run directory, and all its jobs in queues.

    Returns:
        Directories of the runs that were cancelled, and a remark about every command on another
        machine, which cannot be stopped from here.

    Raises:
        CotbalError: no run directory, or a queue does not answer.
    """
    if not root.plan.exists():
        raise RunError(f"{root.root}: expected a run directory with a plan.json, found none")
    answering = submissions(root)
    locks = {paths.driver: paths.driver_lock for paths in answering}
    remarks = _stop_drivers({root.driver: root.lock} | locks)
    runs = [RunPaths(root.root / entry["directory"]) for entry in read_json(root.plan)["runs"]]
    jobs = queued(paths.root for paths in (*runs, *answering))
    cancel_jobs(jobs)
    alive = [job.directory for job in jobs if job.status is not None]
    return [str(path.relative_to(root.root)) for path in alive], remarks


def _stop_drivers(notes: Mapping[Path, Path]) -> list[str]:
    """Stop the commands of these notes (note -> lock), each once, and wait until they release their
    locks.
    """
    here: dict[Path, int] = {}
    elsewhere: dict[tuple[str, int], None] = {}
    for note, lock in notes.items():
        driver = read_json(note) if note.exists() else None
        if driver is None:
            continue
        if driver["host"] != socket.gethostname():
            elsewhere[driver["host"], driver["pid"]] = None
        elif is_locked(lock):
            here[lock] = driver["pid"]
    for pid in dict.fromkeys(here.values()):
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for lock, pid in here.items():
        _wait_for(lock, pid, deadline)
    return [
        f"a command on {host} (process {pid}) may still work here; stop it there"
        for host, pid in elsewhere
    ]


def _wait_for(lock: Path, pid: int, deadline: float) -> None:
    while is_locked(lock):
        if time.monotonic() > deadline:
            raise CotbalError(
                f"{lock.parent}: process {pid} did not stop within {STOP_SECONDS:.0f} s; end it,"
                " then run this command again"
            )
        time.sleep(0.1)
