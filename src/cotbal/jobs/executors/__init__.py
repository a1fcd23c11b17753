"""Where jobs run: one file per executor, behind one contract.

An executor module offers `run(jobs, resources) -> Iterator[Outcome]`: it starts every job's
command, yields an outcome as each ends (in any order), never stops because one job failed, and
stops all that it started when it is closed or interrupted. A job is a JSON file and an argv, so an
executor needs nothing but a shared directory.

Where jobs outlive the process that started them (a queue), the executor writes a `JobHandle` into
the directory of every job, waits for jobs that are alive already, and offers two more functions:
`statuses(ids) -> {id: JobStatus}` of those that are alive, and `cancel(ids)`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cotbal.data.files import read_json, write_json
from cotbal.recipe.schema import ResourcesSection

STOPPED = 75  # EX_TEMPFAIL of sysexits.h
HANDLE = "handle.json"
# Prefixes of the variables that jobs on other machines get.
PASSED_ON = ("COTBAL_", "HF_", "PYTHONPATH", "TOKENIZERS_")


@dataclass(frozen=True)
class Job:
    """One run as a command.

    Attributes:
        name: name of the run.
        directory: where its files lie; the command's output goes to `log.txt` there.
        command: argv.
        cost: relative length, so that the longest can start first.
        needs: GPUs, nodes, memory and time of this job. A job of several processes is started by
            `cotbal.jobs.launching.launched`.
    """

    name: str
    directory: Path
    command: tuple[str, ...]
    cost: float = 1.0
    needs: ResourcesSection = field(default_factory=ResourcesSection)


@dataclass(frozen=True)
class Resources:
    """What the jobs may use.

    Attributes:
        workers: how many jobs run at the same time, or None for one per device.
        threads: CPU threads per job, or None to share the cores.
        environment: variables added to every job's environment.
        address: of a cluster, where the executor takes one.
    """

    workers: int | None = None
    threads: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    address: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How one job ended; `message` says why it failed, with the tail of its log."""

    job: Job
    ok: bool
    seconds: float
    message: str = ""


@dataclass(frozen=True)
class JobHandle:
    """A submitted job, recorded in its directory for the commands that come later.

    Attributes:
        executor: a name of `cotbal.jobs.executors`.
        id: what the queue calls the job.
    """

    executor: str
    id: str


@dataclass(frozen=True)
class JobStatus:
    """A job that a queue knows: waiting or running, and where or why."""

    state: Literal["queued", "running"]
    where: str


def record_handle(directory: Path, handle: JobHandle) -> None:
    """Record a submitted job."""
    write_json(directory / HANDLE, vars(handle))


def recorded_handle(directory: Path) -> JobHandle | None:
    """The submitted job of this directory; None if there is none, or if it was cancelled."""
    path = directory / HANDLE
    return JobHandle(**read_json(path)) if path.exists() else None


def forget_handle(directory: Path) -> None:
    """Remove the record of a job that ended or was cancelled; no driver submits it again."""
    (directory / HANDLE).unlink(missing_ok=True)


def passed_on() -> dict[str, str]:
    """Variables of this process that a job on another machine gets."""
    return {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}


def thread_environment(threads: int) -> dict[str, str]:
    """Variables that keep numerical libraries to `threads` threads."""
    return {
        name: str(threads)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }


def log_tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message; what the worker says failed comes last.

    A launcher of several ranks ends its log with a summary of its own, from which the reason has
    scrolled away.
    """
    if not log.exists():
        return "(no log was written)"
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    failure = log.with_name("failure.json")
    said = read_json(failure)["message"] if failure.exists() else ""
    return tail if said in tail else f"{tail}\n{said}"
