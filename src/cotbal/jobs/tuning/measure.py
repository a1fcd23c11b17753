"""Measure candidates: one process after another, so that the death of one is a result."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cotbal.data.files import read_json, write_json, write_text
from cotbal.jobs.executors import Job, Outcome, Resources, processes
from cotbal.jobs.tuning.rows import UNTIMED, TimedRows
from cotbal.jobs.tuning.search import Failed, Measured, Result
from cotbal.jobs.tuning.settings import THREADS, Changes, named, overrides
from cotbal.recipe.recipe import Recipe
from cotbal.training.run_paths import RunPaths

WORKER = "cotbal.jobs.tuning.worker"
# Messages of CUDA, of PyTorch on CPUs, and of a process that the system has ended.
OUT_OF_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|MemoryError|can't allocate memory|signal SIGKILL"
)
# A whole pass over the chosen rows, without a checkpoint.
TIMED = ("optimization.epochs=1", "optimization.checkpoint_steps=1000000000")

Report = Callable[[str], None]


@dataclass
class Processes:
    """Runs the worker for every candidate.

    Args:
        directory: of all files, to be deleted afterwards.
        threads: of a process if a candidate names none; None on a GPU, or with several processes.
        report: receives a line per process.

    Attributes:
        memory_mib: of the GPU or the machine; None before the first process has ended.
    """

    recipe: Recipe
    directory: Path
    rows: TimedRows
    steps: int
    threads: int | None
    report: Report
    memory_mib: int | None = None
    _count: int = 0

    def __post_init__(self) -> None:
        write_text(self.directory / "recipe.yaml", self.recipe.to_yaml())
        write_json(self.directory / "rows.json", asdict(self.rows), durable=False)

    def __call__(self, candidates: Sequence[Changes]) -> Iterator[Result]:
        """A result for every candidate, in their order."""
        jobs = [self._job(candidate, i) for i, candidate in enumerate(candidates)]
        if not jobs:
            return
        outcomes: Any = processes.run(jobs, Resources(workers=1, threads=self.threads))
        with closing(outcomes):
            for candidate, outcome in zip(candidates, outcomes, strict=True):
                result = self._result(outcome)
                self.report(f"{named(candidate)}: {_described(result)}")
                yield result

    def _job(self, candidate: Changes, number: int) -> Job:
        self._count += 1
        directory = self.directory / f"{self._count}"
        directory.mkdir()
        job = directory / "job.json"
        content = {
            "recipe": str(self.directory / "recipe.yaml"),
            "rows": str(self.directory / "rows.json"),
            "overrides": [*overrides(candidate), *TIMED],
            "threads": dict(candidate).get(THREADS, self.threads),
            "untimed": UNTIMED,
            "steps": self.steps,
        }
        write_json(job, content, durable=False)
        command = (sys.executable, "-m", WORKER, str(job))
        # The longest job is started first: costs keep the order.
        return Job(named(candidate), directory, command, -number, self.recipe.resources, (WORKER,))

    def _result(self, outcome: Outcome) -> Result:
        if not outcome.ok:
            return Failed(bool(OUT_OF_MEMORY.search(outcome.message)), outcome.message)
        content = read_json(RunPaths(outcome.job.directory).outcome)
        self.memory_mib = content["memory_mib"]
        return Measured(
            tuple(content["seconds"]),
            content["begin_seconds"],
            content["waiting"],
            content["peak_mib"],
            tuple(content["losses"]),
        )


def _described(result: Result) -> str:
    if isinstance(result, Measured):
        return f"{result.step:.3g} s per step"
    return "out of memory" if result.out_of_memory else "failed"
