"""Jobs of a run directory that are in the queue of another program: where they stand, and how they
are called back.
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
from cotbal.errors import CotbalError, RunError
from cotbal.jobs.executors import (
    JobHandle,
    JobStatus,
    forget_handle,
    record_handle,
    recorded_handle,
)
from cotbal.jobs.rundir import RunDir, RunPaths, is_locked, read_json, write_json
from cotbal.jobs.submission_paths import submissions

STOP_SECONDS = 90.0  # for a command to stop all that it started, which may save first


@dataclass(frozen=True)
class QueuedJob:
    """A job that some queue was given.

    Attributes:
        directory: of its run.
        place: executor and id.
        standing: None where the queue no longer knows it.
    """

    directory: Path
    place: JobHandle
    standing: JobStatus | None


def sent(directories: Iterable[Path]) -> list[QueuedJob]:
    """Every job of these runs that was recorded, and where it stands.

    Raises:
        CotbalError: a queue cannot be asked.
    """
    places = {
        directory: place
        for directory in directories
        if (place := recorded_handle(directory)) is not None
    }
    alive: dict[JobHandle, JobStatus] = {}
    for executor in dict.fromkeys(place.executor for place in places.values()):
        ids = [place.id for place in places.values() if place.executor == executor]
        found = plugins.load("cotbal.jobs.executors", executor).statuses(ids)
        alive |= {JobHandle(executor, id): standing for id, standing in found.items()}
    return [QueuedJob(directory, place, alive.get(place)) for directory, place in places.items()]


def cancel_jobs(jobs: Sequence[QueuedJob]) -> None:
    """Stop jobs wherever they are; the records go first, so that no driver sends them again.

    Raises:
        CotbalError: a queue does not do it; the records are there again.
    """
    for job in jobs:
        forget_handle(job.directory)
    for executor in dict.fromkeys(job.place.executor for job in jobs):
        alive = [job for job in jobs if job.place.executor == executor and job.standing is not None]
        if not alive:
            continue
        try:
            plugins.load("cotbal.jobs.executors", executor).cancel([job.place.id for job in alive])
        except CotbalError:
            for job in alive:
                record_handle(job.directory, job.place)
            raise


def need_none_elsewhere(directories: Iterable[Path], executor: str) -> None:
    """Two queues must not work on one run.

    Raises:
        RunError: a job is alive in another queue than that of `executor`.
    """
    others = [
        directory
        for directory in directories
        if (p := recorded_handle(directory)) and p.executor != executor
    ]
    alive = [job for job in sent(others) if job.standing is not None]
    if alive:
        first = alive[0]
        raise RunError(
            f"{first.directory}: this run is {_stands(first)} (job {first.place.id} of"
            f" {first.place.executor}), and {len(alive) - 1} others like it; go on with --on"
            f" {first.place.executor}, or call them back with `cotbal cancel` and the run directory"
        )


def _stands(job: QueuedJob) -> str:
    return (
        "running elsewhere"
        if job.standing and job.standing.state == "running"
        else "queued elsewhere"
    )


def record_driver(note: Path, executor: str) -> None:
    """Note which process works in a directory, for `cotbal cancel`."""
    write_json(note, {"host": socket.gethostname(), "pid": os.getpid(), "executor": executor})


def cancel(root: RunDir) -> tuple[list[str], list[str]]:
    """Stop everything of a run directory: the commands that work there, and all jobs that queues
    were given.

    Returns:
        Directories of the runs that were called back, and a remark about every command on another
        machine, which cannot be stopped from here.

    Raises:
        CotbalError: no run directory, or a queue cannot be asked.
    """
    if not root.plan.exists():
        raise RunError(f"{root.root}: expected a run directory with a plan.json, found none")
    asked = submissions(root)
    remarks = _stop_drivers(
        {root.driver: root.lock} | {paths.driver: paths.driver_lock for paths in asked}
    )
    runs = [RunPaths(root.root / entry["directory"]) for entry in read_json(root.plan)["runs"]]
    jobs = sent(paths.root for paths in (*runs, *asked))
    cancel_jobs(jobs)
    return [
        str(job.directory.relative_to(root.root)) for job in jobs if job.standing is not None
    ], remarks


def _stop_drivers(notes: Mapping[Path, Path]) -> list[str]:
    """Tell the commands of these notes to stop, each once, and wait until they hold none of the
    locks.
    """
    drivers = {lock: read_json(note) for note, lock in notes.items() if note.exists()}
    here = {
        lock: d["pid"]
        for lock, d in drivers.items()
        if d["host"] == socket.gethostname() and is_locked(lock)
    }
    for pid in dict.fromkeys(here.values()):
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for lock, pid in here.items():
        while is_locked(lock):
            if time.monotonic() > deadline:
                raise CotbalError(
                    f"{lock.parent}: process {pid} was told to stop, and did not; end it, then"
                    " again"
                )
            time.sleep(0.1)
    elsewhere = [
        (d["host"], d["pid"]) for d in drivers.values() if d["host"] != socket.gethostname()
    ]
    return [
        f"a command on {host} (process {pid}) may still work here; stop it there"
        for host, pid in dict.fromkeys(elsewhere)
    ]
