"""Evaluations of several runs as one score matrix, with the samples behind it where every score is
their mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from cotbal.errors import ScoresError
from cotbal.scores.harnesses import Benchmark, Evaluation, Row, is_number
from cotbal.scores.matrix import Measured, Samples, ScoreMatrix
from cotbal.scores.task_scores import MetricScores, sample_column

ROUNDING = (
    1e-6  # relative difference between a score and the mean of its samples that is arithmetic
)
IDENTITY = (
    "doc_id",
    "target",
    "input",
)  # what tells one question from another in a file of samples


def score_matrix(
    runs: Mapping[str, Evaluation], columns: Mapping[str, tuple[str, str]]
) -> tuple[ScoreMatrix, str]:
    """The score matrix of evaluated runs.

    Args:
        runs: name of the run (`mini`, `full:<task>`, ...) -> its evaluation.
        columns: task -> benchmark and metric, as the harness calls them.

    Returns:
        The matrix, and why it has no samples; samples are all there, or none are. Every sample is
        its own cluster: harnesses do not say which questions share an image, so intervals may be
        too narrow where several do.

    Raises:
        ScoresError: a run lacks a benchmark or metric, asked another number of questions, or other
            ones, or the metric is better when lower.
    """
    values = np.empty((len(runs), len(columns)))
    samples: dict[str, Samples] = {}
    reasons = []
    for j, (task, (name, metric)) in enumerate(columns.items()):
        cells = []
        for run, evaluation in runs.items():
            cell = _benchmark(run, evaluation, name, metric)
            cells.append(cell)
        values[:, j] = [cell.metrics[metric] for cell in cells]
        column = _samples(cells, metric, tuple(runs))
        if isinstance(column, str):
            reasons.append(f"{name}, {metric}: {column}")
        else:
            samples[task] = column
    matrix = ScoreMatrix(tuple(runs), tuple(columns), values, {} if reasons else samples)
    return matrix, "; ".join(reasons)


def columns_of(
    runs: Mapping[str, Evaluation], wanted: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Task -> benchmark and metric.

    Args:
        wanted: task -> `<benchmark>` or `<benchmark>:<metric>`; empty for every benchmark under its
            own name.

    Raises:
        ScoresError: no such benchmark or metric, or a benchmark with several metrics and none
            chosen.
    """
    first_run, first = next(iter(runs.items()))
    columns = {}
    if not wanted:
        wanted = {name: name for name in first.benchmarks}
    for task, text in wanted.items():
        # Names of benchmarks hold no colon, those of metrics may.
        name, _, metric = text.partition(":")
        if name not in first.benchmarks:
            raise ScoresError(
                f"{first_run}: expected one of {', '.join(first.benchmarks)}; found {name!r}"
            )
        there = first.benchmarks[name].metrics
        if not metric and len(there) > 1:
            raise ScoresError(
                f"{name} has several metrics, so expected --task {task}={name}:METRIC with one of"
                f" {', '.join(there)}"
            )
        columns[task] = (name, metric or next(iter(there)))
    return columns


def _benchmark(run: str, evaluation: Evaluation, name: str, metric: str) -> Benchmark:
    where = f"{run} ({evaluation.directory})"
    if name not in evaluation.benchmarks:
        raise ScoresError(f"{where}: expected {name}; found {', '.join(evaluation.benchmarks)}")
    benchmark = evaluation.benchmarks[name]
    if metric not in benchmark.metrics:
        raise ScoresError(
            f"{where}, {name}: expected {metric!r}; found {', '.join(benchmark.metrics)}"
        )
    if metric in benchmark.lower_is_better:
        raise ScoresError(
            f"{where}, {name}: {metric} is better when lower; weights need one that is better when"
            " higher"
        )
    return benchmark


def _samples(cells: list[Benchmark], metric: str, runs: tuple[str, ...]) -> Samples | str:
    """The samples of a column, or why there are none."""
    logged = all(cell.rows for cell in cells)
    _require_same_questions(cells, runs, logged)
    if not logged:
        return "no file of samples"
    values = np.array([_values(cell, metric) for cell in cells])
    if np.isnan(values).any():
        return "no number per sample"
    scores = np.array([cell.metrics[metric] for cell in cells])
    scale = _scale(values, scores)
    if scale is None:
        return "not the mean of its samples"
    are_fractions = bool((values >= 0).all() and (values <= 1).all())
    maximum = scale if are_fractions else float("inf")
    column = []
    for row in values:
        measured = Measured(scale * row)
        column.append(MetricScores(measured, maximum))
    each_its_own = np.arange(values.shape[1])
    return sample_column(column, clusters=each_its_own)


def _require_same_questions(cells: list[Benchmark], runs: tuple[str, ...], logged: bool) -> None:
    first = cells[0]
    for run, cell in zip(runs, cells, strict=True):
        same = cell.questions == first.questions
        if not same or (logged and _questions(cell) != _questions(first)):
            raise ScoresError(
                f"{cell.name}: {run} and {runs[0]} were asked different questions; evaluate them"
                " alike"
            )


def _scale(
    values: Float[np.ndarray, "run sample"], scores: Float[np.ndarray, " run"]
) -> float | None:
    """The factor between scores and means of samples; 100 for the few metrics of harnesses that are
    percentages of fractions.
    """
    for scale in (1.0, 100.0):
        means = scale * values.mean(axis=1)
        if np.allclose(means, scores, ROUNDING, ROUNDING):
            return scale
    return None


def _questions(cell: Benchmark) -> list[list[str]]:
    """What identifies the question of every sample."""
    questions = []
    for row in cell.rows:
        fields = map(row.get, IDENTITY)
        questions.append(list(map(str, fields)))
    return questions


def _values(cell: Benchmark, metric: str) -> list[float]:
    """The metric of every sample; NaN where it has none."""
    values = []
    for row in cell.rows:
        number = _number(row, metric)
        values.append(math.nan if number is None else number)
    return values


def _number(row: Row, metric: str) -> float | None:
    """The metric of one sample: a number, or a mapping that holds one under `score`."""
    name, _, _ = metric.partition(",")
    value = row.get(name)
    if isinstance(value, dict):
        value = value.get("score")
    if isinstance(value, bool) or is_number(value):
        return float(value)
    return None
