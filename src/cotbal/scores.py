"""The score matrix: run x task, higher is better already applied, with the per-sample scores behind every cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cotbal.csv_table import CsvTable, Kind, read_table, to_csv
from cotbal.errors import ScoresError

KIND = Kind("run", "<task>", "scores", gaps=True)


@dataclass(frozen=True)
class Samples:
    """What lies behind one column of the score matrix.

    Attributes:
        values: score of every run on every validation sample, the same samples in the same order for every run.
        clusters: which samples belong together (several questions on one picture), numbered from 0; they are
            resampled together, because their errors are not independent.
        maximum: the largest value that the metric can give.
        constant: per-sample scores of the best constant answer, or None when it is not known.
        constant_answer: that answer.
        drawn_with: columns with the same name here answered the same samples, and are resampled together; by default
            a column is resampled by its own name.
    """

    values: Float[np.ndarray, "run sample"]
    clusters: Int[np.ndarray, " sample"]
    maximum: float
    constant: Float[np.ndarray, " sample"] | None = None
    constant_answer: str = ""
    drawn_with: str = ""


@dataclass(frozen=True)
class ScoreMatrix:
    """Score of every run on every task's validation set.

    Attributes:
        runs: names of the rows (`mini`, `full:<unit>`, ...).
        tasks: names of the columns.
        values: `P[run, task]`, higher is better; NaN where a run did not answer a task.
        samples: task -> the samples behind its column; empty for a bare table of scores.
    """

    runs: tuple[str, ...]
    tasks: tuple[str, ...]
    values: Float[np.ndarray, "run task"]
    samples: Mapping[str, Samples] = field(default_factory=dict)

    def row(self, run: str) -> int:
        """Index of `run`.

        Raises:
            ScoresError: there is no such row.
        """
        if run not in self.runs:
            raise ScoresError(f"expected a row {run!r} in the table of scores; found {', '.join(self.runs)}")
        return self.runs.index(run)

    def rows(self, runs: Sequence[str]) -> ScoreMatrix:
        """The rows of these runs, in this order."""
        places = [self.row(run) for run in runs]
        samples = {task: replace(each, values=each.values[places]) for task, each in self.samples.items()}
        return ScoreMatrix(tuple(runs), self.tasks, self.values[places], samples)

    def to_csv(self) -> str:
        """The table with header `run,<task>,...`, numbers unrounded, a cell that is not known empty."""
        return to_csv(KIND, CsvTable(self.runs, self.tasks, self.values))


def mean_matrix(matrices: Sequence[ScoreMatrix]) -> ScoreMatrix:
    """The mean over matrices that differ in the training seed alone, sample by sample.

    Raises:
        ScoresError: they have other runs, tasks or samples.
    """
    first = matrices[0]
    for other in matrices[1:]:
        if (other.runs, other.tasks) != (first.runs, first.tasks):
            raise ScoresError("expected the tables of all seeds to have the same runs and tasks; found others")
        if any(not np.array_equal(first.samples[t].clusters, other.samples[t].clusters) for t in first.samples):
            raise ScoresError("expected all seeds to have answered the same validation samples; found others")
    samples = {
        task: replace(each, values=np.mean([matrix.samples[task].values for matrix in matrices], axis=0))
        for task, each in first.samples.items()
    }
    return replace(first, values=np.mean([matrix.values for matrix in matrices], axis=0), samples=samples)


def read_scores(path: Path) -> ScoreMatrix:
    """Read a table of scores with header `run,<task>,...` and one row a run.

    Raises:
        ScoresError: no such file, a malformed header, a repeated run or task, or a cell that is neither empty (the run
            did not answer the task) nor a finite number.
    """
    table = read_table(path, KIND)
    return ScoreMatrix(table.rows, table.columns, table.values)
