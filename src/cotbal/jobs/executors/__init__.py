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
from typing import TYPE_CHECKING, Literal

from cotbal.data.files import as_written, read_json, write_json
from cotbal.jobs.launching import is_launched
from cotbal.training.run_paths import RunPaths

if TYPE_CHECKING:
    from cotbal.recipe.schema import ResourcesSection

STOPPED = 75  # EX_TEMPFAIL of sysexits.h
HANDLE = "handle.json"
# Prefixes of the variables that jobs on other machines get.
PASSED_ON = ("COTBAL_", "HF_", "PYTHONPATH", "TOKENIZERS_")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Verdict = Literal["done", "failed", "retry"]


def _no_needs() -> ResourcesSection:
    from cotbal.recipe.schema import ResourcesSection  # not where a command only shows a state

    return ResourcesSection()


@dataclass(frozen=True)
class Helper:
    """A command that does a part of a job's work in a process of its own.

    Attributes:
        command: argv; its imports are those of the job. It may end or be killed at any time.
        wanted: exists while the job has work for it.
    """

    command: tuple[str, ...]
    wanted: Path


@dataclass(frozen=True)
class Job:
    """One run as a command.

    Attributes:
        name: name of the run.
        directory: of its files; the command's output goes to `log.txt` there.
        command: argv.
        cost: relative length, so that the longest can start first.
        needs: GPUs, nodes, memory and time of this job. A job of several processes is started by
            `cotbal.jobs.launching.launched`.
        imports: modules that the command imports, and that an executor may import once for all.
        helper: what an executor may start where it has room and no job left.
    """

    name: str
    directory: Path
    command: tuple[str, ...]
    cost: float = 1.0
    needs: ResourcesSection = field(default_factory=_no_needs)
    imports: tuple[str, ...] = ()
    helper: Helper | None = None


@dataclass(frozen=True)
class Resources:
    """What the jobs may use.

    Attributes:
        workers: how many jobs run at the same time, or None for one per device.
        threads: CPU threads per job, or None to share the cores.
        environment: variables added to every job's environment.
        address: of a cluster, if the executor connects to one.
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
        id: of the job in the queue.
    """

    executor: str
    id: str


@dataclass(frozen=True)
class JobStatus:
    """A job in a queue: waiting or running, and where or why."""

    state: Literal["queued", "running"]
    where: str


def record_handle(directory: Path, handle: JobHandle) -> None:
    """Record a submitted job."""
    write_json(directory / HANDLE, vars(handle))


def recorded_handle(directory: Path) -> JobHandle | None:
    """The submitted job of this directory; None if there is none, or if it was cancelled.

    Raises:
        RunError: its record is damaged.
    """
    path = directory / HANDLE
    if not path.exists():
        return None
    with as_written(path):
        handle = JobHandle(**read_json(path))
        for text in vars(handle).values():
            text.encode()  # not a text: an AttributeError
    return handle


def forget_handle(directory: Path) -> None:
    """Remove the record of a job that ended or was cancelled; no driver submits it again."""
    (directory / HANDLE).unlink(missing_ok=True)


class Attempts:
    """The attempts at one job. A job that ended without a result is retried `resources.retries`
    times in a row; attempts that advanced the run do not count.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.without_progress = 0
        self.reached = progress_of(job.directory)

    def verdict(self, code: int | None) -> Verdict:
        """What to do with a job that has ended.

        A program that fails by itself leaves `failure.json`, which the worker writes, or an exit
        code. Everything else came from outside (a preemption, a lost node, a kill, a time limit),
        and the job resumes from its checkpoint.

        Args:
            code: exit code of the command; None if it was lost, negative or above 128 if a signal
                ended it. A launcher of several ranks always exits with 1, so its code is ignored.
        """
        paths = RunPaths(self.job.directory)
        if code == 0 or paths.done:
            return "done"
        by_itself = code is not None and 0 < code < 128 and code != STOPPED
        if paths.failure.exists() or (by_itself and not is_launched(self.job.needs)):
            return "failed"
        reached = progress_of(self.job.directory)
        self.without_progress = 0 if reached > self.reached else self.without_progress + 1
        self.reached = max(reached, self.reached)
        return "retry" if self.without_progress <= self.job.needs.retries else "failed"


def progress_of(directory: Path) -> tuple[int, int, int, int]:
    """How far a run has come: number of answered sets, number of files of answers until all sets
    are answered, whether it is trained, step of its last complete checkpoint.
    """
    marks = directory.glob("partial/checkpoint-*/complete")
    steps = [int(mark.parent.name.rpartition("-")[2]) for mark in marks]
    answered = len(list(directory.glob("generations/*.jsonl")))
    answers = len(list(RunPaths(directory).answers.glob("*.jsonl")))
    is_trained = int(RunPaths(directory).trained.exists())
    return answered, answers, is_trained, max(steps, default=0)


def passed_on() -> dict[str, str]:
    """Variables of this process that a job on another machine gets."""
    return {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}


def thread_environment(threads: int | None) -> dict[str, str]:
    """Variables that keep numerical libraries to `threads` threads; none without a number."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads)) if threads else {}


def log_tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message, and what the worker recorded as the failure.

    A launcher of several ranks ends its log with a summary of its own, so the reason may be further
    up.
    """
    if not log.exists():
        return "(no log was written)"
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    failure = RunPaths(log.parent).failure
    reason = read_json(failure)["message"] if failure.exists() else ""
    return tail if reason in tail else f"{tail}\n{reason}"
