"""Jobs of a run directory that are in the queue of another program: where they stand, and how they are called back."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cotbal import plugins
from cotbal.errors import CotbalError, RunError
from cotbal.executors import Place, Standing, forget_place, record_place, recorded_place
from cotbal.rundir import RunDir, RunPaths, is_locked, read_json, write_json

STOP_SECONDS = 60.0  # for a command to stop all that it started


@dataclass(frozen=True)
class Sent:
    """A job that some queue was given.

    Attributes:
        directory: of its run.
        place: executor and id.
        standing: None where the queue no longer knows it.
    """

    directory: Path
    place: Place
    standing: Standing | None


def sent(directories: Iterable[Path]) -> list[Sent]:
    """Every job of these runs that was recorded, and where it stands.

    Raises:
        CotbalError: a queue cannot be asked.
    """
    places = {directory: place for directory in directories if (place := recorded_place(directory)) is not None}
    alive: dict[Place, Standing] = {}
    for executor in dict.fromkeys(place.executor for place in places.values()):
        ids = [place.id for place in places.values() if place.executor == executor]
        found = plugins.load("cotbal.executors", executor).standings(ids)
        alive |= {Place(executor, id): standing for id, standing in found.items()}
    return [Sent(directory, place, alive.get(place)) for directory, place in places.items()]


def call_back(jobs: Sequence[Sent]) -> None:
    """Stop jobs wherever they are; the records go first, so that no driver sends them again.

    Raises:
        CotbalError: a queue does not do it; the records are there again.
    """
    for job in jobs:
        forget_place(job.directory)
    for executor in dict.fromkeys(job.place.executor for job in jobs):
        alive = [job for job in jobs if job.place.executor == executor and job.standing is not None]
        if not alive:
            continue
        try:
            plugins.load("cotbal.executors", executor).cancel([job.place.id for job in alive])
        except CotbalError:
            for job in alive:
                record_place(job.directory, job.place)
            raise


def need_none_elsewhere(directories: Iterable[Path], executor: str) -> None:
    """Two queues must not work on one run.

    Raises:
        RunError: a job is alive in another queue than that of `executor`.
    """
    others = [directory for directory in directories if (p := recorded_place(directory)) and p.executor != executor]
    alive = [job for job in sent(others) if job.standing is not None]
    if alive:
        first = alive[0]
        raise RunError(
            f"{first.directory}: this run is {_stands(first)} (job {first.place.id} of {first.place.executor}), and "
            f"{len(alive) - 1} others like it; go on with --on {first.place.executor}, or call them back with "
            "`cotbal cancel` and the run directory"
        )


def _stands(job: Sent) -> str:
    return "running elsewhere" if job.standing and job.standing.state == "running" else "queued elsewhere"


def record_driver(root: RunDir, executor: str) -> None:
    """Note which process works in a directory, for `cotbal cancel`."""
    write_json(root.driver, {"host": socket.gethostname(), "pid": os.getpid(), "executor": executor})


def cancel(root: RunDir) -> tuple[list[str], str | None]:
    """Stop everything of a run directory: the command that works there, and all jobs that queues were given.

    Returns:
        Directories of the runs that were called back, and a remark about a command on another machine, if there is
        one that cannot be stopped from here.

    Raises:
        CotbalError: no run directory, or a queue cannot be asked.
    """
    if not root.plan.exists():
        raise RunError(f"{root.root}: expected a run directory with a plan.json, found none")
    remark = _stop_driver(root)
    runs = [RunPaths(root.root / entry["directory"]) for entry in read_json(root.plan)["runs"]]
    jobs = sent(paths.root for paths in runs)
    call_back(jobs)
    return [str(job.directory.relative_to(root.root)) for job in jobs if job.standing is not None], remark


def _stop_driver(root: RunDir) -> str | None:
    if not root.driver.exists():
        return None
    driver = read_json(root.driver)
    if driver["host"] != socket.gethostname():
        return f"a command on {driver['host']} (process {driver['pid']}) may still work here; stop it there"
    if not is_locked(root.lock):
        return None
    os.kill(driver["pid"], signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while is_locked(root.lock):
        if time.monotonic() > deadline:
            raise CotbalError(f"{root.root}: process {driver['pid']} was told to stop, and did not; end it, then again")
        time.sleep(0.1)
    return None
