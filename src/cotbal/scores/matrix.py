"""The score matrix: run x task, higher is better already applied, with the per-sample scores behind
every cell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cotbal.errors import ScoresError
from cotbal.scores.csv_table import CsvTable, Kind, read_table, to_csv

KIND = Kind("run", "<task>", "scores", gaps=True)
CONSTANT = "constant_"  # marks what the best constant answer gets, in files of scores


@dataclass(frozen=True)
class Measured:
    """What a metric says of the answers of one run.

    Attributes:
        values: score of every sample.
        weights: what every sample counts in the score, only their proportions matter; None: all the
            same.
    """

    values: Float[np.ndarray, " sample"]
    weights: Float[np.ndarray, " sample"] | None = None

    @property
    def score(self) -> float:
        """The weighted mean of the values; 0 where no sample counts."""
        if self.weights is None:
            return float(self.values.mean())
        total = self.weights.sum()
        return float(self.weights @ self.values / total) if total > 0 else 0.0

    @property
    def linear(self) -> Float[np.ndarray, " sample"]:
        """Numbers of equal say with the same mean: `score + w (value - score) / mean(w)`.

        That is the score and the influence of each sample on it (Hampel 1974), so whatever takes
        plain means over samples, the bootstrap above all, is right for a weighted mean too: its
        value exactly, its spread to first order in 1/n.
        """
        if self.weights is None:
            return self.values
        mean = self.weights.mean()
        if not mean > 0:
            return np.zeros(len(self.values))
        return self.score + self.weights / mean * (self.values - self.score)

    def to_json(self, kind: str = "") -> dict[str, Any]:
        """`<kind>samples`, and `<kind>weights` where there are any."""
        weights = {} if self.weights is None else {f"{kind}weights": self.weights.tolist()}
        return {f"{kind}samples": self.values.tolist(), **weights}


def read_measured(content: Mapping[str, Any], kind: str = "") -> Measured:
    """The inverse of `Measured.to_json`."""
    weights = content.get(f"{kind}weights")
    values = np.array(content[f"{kind}samples"], dtype=float)
    return Measured(values, None if weights is None else np.array(weights, dtype=float))


@dataclass(frozen=True)
class Samples:
    """What lies behind one column of the score matrix.

    Attributes:
        values: score of every run on every validation sample, the same samples in the same order
            for every run; where a metric weighs its samples, `Measured.linear`, so that a plain
            mean is always the score.
        clusters: which samples belong together (several questions on one picture), numbered from 0;
            they are resampled together, because their errors are not independent.
        maximum: the largest value that the metric can give.
        constant: the same for the best constant answer, or None when it is not known.
        constant_answer: that answer.
        drawn_with: columns with the same name here answered the same samples, and are resampled
            together; by default a column is resampled by its own name.
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
            raise ScoresError(
                f"expected a row {run!r} in the table of scores; found {', '.join(self.runs)}"
            )
        return self.runs.index(run)

    def rows(self, runs: Sequence[str]) -> ScoreMatrix:
        """The rows of these runs, in this order."""
        places = [self.row(run) for run in runs]
        samples = {
            task: replace(each, values=each.values[places]) for task, each in self.samples.items()
        }
        return ScoreMatrix(tuple(runs), self.tasks, self.values[places], samples)

    def to_csv(self) -> str:
        """The table with header `run,<task>,...`, numbers unrounded, a cell that is not known
        empty.
        """
        return to_csv(KIND, CsvTable(self.runs, self.tasks, self.values))

    def to_json(self) -> dict[str, Any]:
        """The table and the samples behind it, as `read_scores` reads them; what is not known is
        null.

        What the samples of a run directory know besides, constant answers and pairs of columns, is
        left out.
        """
        samples = {
            task: {
                "values": _nullable(each.values),
                "clusters": each.clusters.tolist(),
                "maximum": None if np.isinf(each.maximum) else each.maximum,
            }
            for task, each in self.samples.items()
        }
        return {
            "runs": list(self.runs),
            "tasks": list(self.tasks),
            "values": _nullable(self.values),
            "samples": samples,
        }


def mean_matrix(matrices: Sequence[ScoreMatrix]) -> ScoreMatrix:
    """The mean over matrices that differ in the training seed alone, sample by sample.

    Raises:
        ScoresError: they have other runs, tasks or samples.
    """
    first = matrices[0]
    for other in matrices[1:]:
        if (other.runs, other.tasks) != (first.runs, first.tasks):
            raise ScoresError(
                "expected the tables of all seeds to have the same runs and tasks; found others"
            )
        if any(
            not np.array_equal(first.samples[t].clusters, other.samples[t].clusters)
            for t in first.samples
        ):
            raise ScoresError(
                "expected all seeds to have answered the same validation samples; found others"
            )
    samples = {
        task: replace(
            each, values=np.mean([matrix.samples[task].values for matrix in matrices], axis=0)
        )
        for task, each in first.samples.items()
    }
    return replace(
        first, values=np.mean([matrix.values for matrix in matrices], axis=0), samples=samples
    )


def read_scores(path: Path) -> ScoreMatrix:
    """Read a table of scores: CSV with header `run,<task>,...` and one row a run, or what
    `ScoreMatrix.to_json` wrote.

    Raises:
        ScoresError: no such file, a malformed header, a repeated run or task, or a cell that is
            neither empty (the run did not answer the task) nor a finite number.
    """
    if path.suffix == ".json":
        return _read_json(path)
    table = read_table(path, KIND)
    return ScoreMatrix(table.rows, table.columns, table.values)


def _nullable(values: Float[np.ndarray, "row column"]) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(value) for value in row] for row in values]


def _read_json(path: Path) -> ScoreMatrix:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        runs, tasks = tuple(content["runs"]), tuple(content["tasks"])
        matrix = ScoreMatrix(
            runs,
            tasks,
            _array(content["values"], (len(runs), len(tasks))),
            {task: _samples(each, len(runs)) for task, each in content["samples"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScoresError(
            f"{path}: expected scores as `cotbal import` writes them (runs, tasks, values,"
            f" samples); {error!r}"
        ) from None
    if (
        len(set(runs)) < len(runs)
        or len(set(tasks)) < len(tasks)
        or set(matrix.samples) not in (set(), set(tasks))
    ):
        raise ScoresError(
            f"{path}: expected every run and task once, and samples of all tasks or of none"
        )
    return matrix


def _samples(content: Mapping[str, Any], runs: int) -> Samples:
    clusters = np.array(content["clusters"], dtype=int)
    if (clusters < 0).any():
        raise ValueError("clusters are numbered from 0")
    maximum = float("inf") if content["maximum"] is None else float(content["maximum"])
    if not maximum > 0:
        raise ValueError(f"a maximum is positive; found {maximum:g}")
    return Samples(_array(content["values"], (runs, len(clusters))), clusters, maximum)


def _array(rows: Any, shape: tuple[int, int]) -> Float[np.ndarray, "row column"]:
    values = np.array(rows, dtype=float).reshape(len(rows), -1)  # null becomes NaN
    if values.shape != shape or np.isinf(values).any():
        raise ValueError(f"{shape[0]} rows of {shape[1]} finite numbers; found {len(rows)} rows")
    return values
