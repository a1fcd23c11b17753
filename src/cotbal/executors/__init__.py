"""Where work runs: one file a place, behind one contract.

An executor module offers `run(jobs, resources) -> Iterator[Outcome]`: it starts every job's command, yields an outcome
as each ends (in any order), never stops because one job failed, and stops all that it started when it is closed or
interrupted. A job is a JSON file and an argv, so a place needs nothing but a shared directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PARENT = "COTBAL_PARENT"  # process that a worker must not outlive


@dataclass(frozen=True)
class Job:
    """One run as a command.

    Attributes:
        name: name of the run.
        directory: where its files lie; the command's output goes to `log.txt` there.
        command: argv.
        cost: relative length, so that the longest can start first.
    """

    name: str
    directory: Path
    command: tuple[str, ...]
    cost: float = 1.0


@dataclass(frozen=True)
class Resources:
    """What the jobs may use.

    Attributes:
        workers: how many jobs run at the same time, or None for one a device.
        threads: CPU threads a job, or None to share the cores out.
        environment: variables added to every job's environment.
    """

    workers: int | None = None
    threads: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How one job ended; `message` says why it failed, with the tail of its log."""

    job: Job
    ok: bool
    seconds: float
    message: str = ""


def thread_environment(threads: int) -> dict[str, str]:
    """Variables that keep numerical libraries to `threads` threads."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def log_tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    if not log.exists():
        return "(no log was written)"
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
