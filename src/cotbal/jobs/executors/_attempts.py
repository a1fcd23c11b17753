"""Once more, or failed: what became of a job that a queue no longer knows, and how often it may be
sent again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cotbal.jobs.executors import STOPPED, Job
from cotbal.jobs.launching import is_launched

Progress = tuple[int, int, int]
Verdict = Literal["done", "failed", "again"]


def progress_of(directory: Path) -> Progress:
    """How far a run has come: files of answers, whether it is trained, step of its last whole
    checkpoint.
    """
    steps = [
        int(mark.parent.name.rpartition("-")[2])
        for mark in directory.glob("partial/checkpoint-*/complete")
    ]
    answers = len(list(directory.glob("generations/*.jsonl")))
    return (answers, int((directory / "trained.json").exists()), max(steps, default=0))


@dataclass
class Attempts:
    """How often one job was sent in a row without coming further.

    A run that was stopped by a limit of time and has saved a checkpoint since may resume as often
    as it takes.
    """

    job: Job
    fruitless: int = 0
    reached: Progress = field(init=False)

    def __post_init__(self) -> None:
        self.reached = progress_of(self.job.directory)

    def verdict(self, code: int | None) -> Verdict:
        """What to do with a job that has ended.

        A program that fails by itself says so: by `failure.json`, which the worker writes, or by
        its exit code. All else came from outside (a preemption, a lost node, a kill, a limit of
        time), and the job resumes from its checkpoint.

        Args:
            code: exit code of the command; None if it was lost, negative or above 128 if a signal
                ended it. That of a launcher of several ranks is 1 whatever happened, so it says
                nothing.
        """
        if code == 0 or (self.job.directory / "outcome.json").exists():
            return "done"
        own = (
            code is not None
            and 0 < code < 128
            and code != STOPPED
            and not is_launched(self.job.needs)
        )
        if own or (self.job.directory / "failure.json").exists():
            return "failed"
        now = progress_of(self.job.directory)
        self.fruitless = 0 if now > self.reached else self.fruitless + 1
        self.reached = max(now, self.reached)
        return "again" if self.fruitless <= self.job.needs.retries else "failed"
