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

TOO_LARGE = (OverflowError, RecursionError)  # of numbers, and of JSON that is nested deeply
KIND = Kind("run", "<task>", "scores", gaps=True)


@dataclass(frozen=True)
class Measured:
    """Scores of the answers of one run by one metric.

    Attributes:
        values: score of every sample.
        weights: of every sample in the score, up to a common factor; None: all the same.
    """

    values: Float[np.ndarray, " sample"]
    weights: Float[np.ndarray, " sample"] | None = None

    @property
    def score(self) -> float:
        """The weighted mean of the values; 0 where no sample counts."""
        if self.weights is None:
            return float(self.values.mean())
        total = self.weights.sum()
        if not total > 0:
            return 0.0
        return float(self.weights @ self.values / total)

    @property
    def linear(self) -> Float[np.ndarray, " sample"]:
        """Numbers with the same plain mean, Eq. N6: `score + w (value - score) / mean(w)`.

        That is the score and the influence of each sample on it (Hampel 1974), so whatever takes
        plain means over samples, the bootstrap above all, is right for a weighted mean too: its
        value exactly, its spread to first order in 1/n.
        """
        if self.weights is None:
            return self.values
        mean = self.weights.mean()
        if not mean > 0:
            return np.zeros(len(self.values))
        score = self.score
        relative = self.weights / mean
        return score + relative * (self.values - score)

    def to_json(self, kind: str = "") -> dict[str, Any]:
        """`<kind>samples`, and `<kind>weights` where there are any."""
        content = {f"{kind}samples": self.values.tolist()}
        if self.weights is not None:
            content[f"{kind}weights"] = self.weights.tolist()
        return content


def read_measured(content: Mapping[str, Any], kind: str = "") -> Measured:
    """The inverse of `Measured.to_json`."""
    values = np.array(content[f"{kind}samples"], dtype=float)
    weights = content.get(f"{kind}weights")
    if weights is None:
        return Measured(values)
    return Measured(values, np.array(weights, dtype=float))


@dataclass(frozen=True)
class Samples:
    """The samples behind one column of the score matrix.

    Attributes:
        values: score of every run on every validation sample, the same samples in the same order
            for every run; where a metric weighs its samples, `Measured.linear`, so that a plain
            mean is always the score.
        clusters: which samples belong together (several questions on one image), numbered from 0;
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
        rows = [self.row(run) for run in runs]
        samples = {}
        for task, column in self.samples.items():
            values = column.values[rows]
            samples[task] = replace(column, values=values)
        return ScoreMatrix(tuple(runs), self.tasks, self.values[rows], samples)

    def columns(self, tasks: Sequence[str]) -> ScoreMatrix:
        """The columns of these tasks, in this order."""
        columns = [self.tasks.index(task) for task in tasks]
        samples = {task: self.samples[task] for task in tasks if task in self.samples}
        return ScoreMatrix(self.runs, tuple(tasks), self.values[:, columns], samples)

    def to_csv(self) -> str:
        """The table with header `run,<task>,...`, numbers unrounded, unknown cells empty."""
        return to_csv(KIND, CsvTable(self.runs, self.tasks, self.values))

    def to_json(self) -> dict[str, Any]:
        """The table and the samples behind it, as `read_scores` reads them; unknown cells are null.

        Constant answers and `drawn_with` are left out.
        """
        samples = {}
        for task, column in self.samples.items():
            is_limited = not np.isinf(column.maximum)
            samples[task] = {
                "values": _nullable(column.values),
                "clusters": column.clusters.tolist(),
                "maximum": column.maximum if is_limited else None,
            }
        return {
            "runs": list(self.runs),
            "tasks": list(self.tasks),
            "values": _nullable(self.values),
            "samples": samples,
        }


def matrix_of_samples(runs: Sequence[str], samples: Mapping[str, Samples]) -> ScoreMatrix:
    """The score matrix of columns of samples: every score is the mean of its samples."""
    values = np.empty((len(runs), len(samples)))
    for j, column in enumerate(samples.values()):
        values[:, j] = column.values.mean(axis=1)
    return ScoreMatrix(tuple(runs), tuple(samples), values, samples)


def mean_matrix(matrices: Sequence[ScoreMatrix]) -> ScoreMatrix:
    """The mean over matrices that differ in the training seed alone, sample by sample.

    Raises:
        ScoresError: they have other runs, tasks or samples.
    """
    require_same_samples(matrices)
    runs = matrices[0].runs
    if any(matrix.runs != runs for matrix in matrices):
        raise ScoresError(
            "expected the tables of all seeds to have the same runs; found others", "other-runs"
        )
    groups = [range(i, len(matrices) * len(runs), len(runs)) for i in range(len(runs))]
    return row_means(runs, stacked(matrices), groups)


def in_one_order(matrices: Sequence[ScoreMatrix]) -> list[ScoreMatrix]:
    """The matrices with the columns of the first; one with other tasks stays as it is."""
    tasks = matrices[0].tasks
    names = set(tasks)
    ordered = []
    for matrix in matrices:
        is_same = set(matrix.tasks) == names
        ordered.append(matrix.columns(tasks) if is_same else matrix)
    return ordered


def require_same_samples(matrices: Sequence[ScoreMatrix]) -> None:
    """Matrices of several training seeds must have the same tasks and validation samples.

    Raises:
        ScoresError: they have not.
    """
    first = matrices[0]
    for other in matrices[1:]:
        if other.tasks != first.tasks:
            raise ScoresError(
                "expected the tables of all seeds to have the same tasks; found"
                f" {', '.join(first.tasks)} in one and {', '.join(other.tasks)} in another",
                "other-tasks",
            )
        if other.samples.keys() != first.samples.keys():
            raise ScoresError(
                "expected the scores of all samples in the tables of all seeds, or in none; found"
                " both",
                "other-tasks",
            )
        for task, column in first.samples.items():
            clusters = other.samples[task].clusters
            if not np.array_equal(column.clusters, clusters):
                raise ScoresError(
                    "expected all seeds to have answered the same validation samples; found others",
                    "other-samples",
                )


def stacked(parts: Sequence[ScoreMatrix]) -> ScoreMatrix:
    """The rows of all parts under each other; the parts have the same tasks and samples."""
    first = parts[0]
    if len(parts) == 1:
        return first
    samples = {}
    for task, column in first.samples.items():
        values = np.concatenate([part.samples[task].values for part in parts])
        samples[task] = replace(column, values=values)
    runs: list[str] = []
    for part in parts:
        runs += part.runs
    values = np.concatenate([part.values for part in parts])
    return ScoreMatrix(tuple(runs), first.tasks, values, samples)


def row_means(
    names: Sequence[str], matrix: ScoreMatrix, groups: Sequence[Sequence[int]]
) -> ScoreMatrix:
    """One row per group of rows, called `names`: the mean over the group, sample by sample."""
    firsts = [rows[0] for rows in groups]
    larger = {row: list(rows) for row, rows in enumerate(groups) if len(rows) > 1}

    def mean(values: np.ndarray) -> np.ndarray:
        means = values[firsts]
        for row, rows in larger.items():
            means[row] = values[rows].mean(axis=0)
        return means

    samples = {}
    for task, column in matrix.samples.items():
        samples[task] = replace(column, values=mean(column.values))
    return ScoreMatrix(tuple(names), matrix.tasks, mean(matrix.values), samples)


def read_scores(path: Path) -> ScoreMatrix:
    """Read a table of scores: CSV with header `run,<task>,...` and one row per run, or what
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
    nullable = values.astype(object)
    nullable[np.isnan(values)] = None
    rows: list[list[float | None]] = nullable.tolist()
    return rows


def _read_json(path: Path) -> ScoreMatrix:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        runs, tasks = _names(content["runs"]), _names(content["tasks"])
        matrix = ScoreMatrix(
            runs,
            tasks,
            _array(content["values"], (len(runs), len(tasks))),
            {task: _samples(column, len(runs)) for task, column in content["samples"].items()},
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, *TOO_LARGE) as error:
        raise ScoresError(
            f"{path}: expected scores as `cotbal import` writes them (runs, tasks, values,"
            f" samples); {error!r:.300}"
        ) from None
    sampled = set(matrix.samples)
    has_repeated_run = len(set(runs)) < len(runs)
    has_repeated_task = len(set(tasks)) < len(tasks)
    is_repeated = has_repeated_run or has_repeated_task
    if is_repeated or sampled not in (set(), set(tasks)):
        raise ScoresError(
            f"{path}: expected every run and task once, and samples of all tasks or of none"
        )
    return matrix


def _names(content: Any) -> tuple[str, ...]:
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ValueError("runs and tasks are lists of names")
    return tuple(content)


def _samples(content: Mapping[str, Any], runs: int) -> Samples:
    given = np.array(content["clusters"])
    is_list_of_integers = given.ndim == 1 and np.issubdtype(given.dtype, np.integer)
    if not is_list_of_integers or (given < 0).any():
        raise ValueError("clusters are a list of whole numbers from 0")
    # Room is made for every number up to the largest.
    clusters = np.unique(given, return_inverse=True)[1]
    limit = content["maximum"]
    maximum = float("inf") if limit is None else float(limit)
    if not maximum > 0:
        raise ValueError(f"a maximum is positive; found {maximum:g}")
    values = _array(content["values"], (runs, len(clusters)))
    return Samples(values, clusters, maximum)


def _array(rows: Any, shape: tuple[int, int]) -> Float[np.ndarray, "row column"]:
    values = np.array(rows, dtype=float).reshape(len(rows), -1)  # null becomes NaN
    if values.shape != shape or np.isinf(values).any():
        raise ValueError(f"{shape[0]} rows of {shape[1]} finite numbers; found {len(rows)} rows")
    return values
