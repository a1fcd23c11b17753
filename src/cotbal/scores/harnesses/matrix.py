"""Evaluations of several runs as one score matrix, with the samples behind it where every score is
their mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

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
        its own cluster: harnesses do not say which questions share a picture, so intervals may be
        too narrow where several do.

    Raises:
        ScoresError: a run lacks a benchmark or metric, asked another number of questions, or other
            ones, or the metric is better when lower.
    """
    cells = {
        task: [_benchmark(run, found, *column) for run, found in runs.items()]
        for task, column in columns.items()
    }
    values = np.array(
        [
            [cell.metrics[columns[task][1]] for task, cell in zip(columns, row, strict=True)]
            for row in zip(*cells.values(), strict=True)
        ]
    )
    samples: dict[str, Samples] = {}
    reasons = []
    for task, (name, metric) in columns.items():
        found = _samples(cells[task], metric, tuple(runs))
        if isinstance(found, str):
            reasons.append(f"{name}, {metric}: {found}")
        else:
            samples[task] = found
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
    for task, text in (wanted or {name: name for name in first.benchmarks}).items():
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
    found = evaluation.benchmarks[name]
    if metric not in found.metrics:
        raise ScoresError(f"{where}, {name}: expected {metric!r}; found {', '.join(found.metrics)}")
    if metric in found.lower_is_better:
        raise ScoresError(
            f"{where}, {name}: {metric} is better when lower; weights need one that is better when"
            " higher"
        )
    return found


def _samples(cells: list[Benchmark], metric: str, runs: tuple[str, ...]) -> Samples | str:
    """The samples of a column, or why there are none."""
    name = cells[0].name
    logged = all(cell.rows for cell in cells)
    for run, cell in zip(runs, cells, strict=True):
        if cell.questions != cells[0].questions or (
            logged and _questions(cell) != _questions(cells[0])
        ):
            raise ScoresError(
                f"{name}: {run} and {runs[0]} were asked different questions; evaluate them alike"
            )
    if not logged:
        return "no file of samples"
    values = [_values(cell, metric) for cell in cells]
    if any(row is None for row in values):
        return "no number a sample"
    stacked = np.array(values, dtype=float)
    scores = np.array([cell.metrics[metric] for cell in cells])
    # A few harness metrics are percentages of the mean of fractions.
    scale = next(
        (
            s
            for s in (1.0, 100.0)
            if np.allclose(s * stacked.mean(axis=1), scores, ROUNDING, ROUNDING)
        ),
        None,
    )
    if scale is None:
        return "not the mean of its samples"
    within = bool((stacked >= 0).all() and (stacked <= 1).all())
    maximum = scale if within else float("inf")
    column = [MetricScores(Measured(scale * row), maximum) for row in stacked]
    return sample_column(column, np.arange(stacked.shape[1]))


def _questions(cell: Benchmark) -> list[tuple[str, ...]]:
    return [tuple(str(row.get(key)) for key in IDENTITY) for row in cell.rows]


def _values(cell: Benchmark, metric: str) -> list[float] | None:
    found = [_number(row, metric) for row in cell.rows]
    return None if None in found else [float(value) for value in found if value is not None]


def _number(row: Row, metric: str) -> float | None:
    """The metric of one sample: a number, or a mapping that holds one under `score`."""
    value = row.get(metric.partition(",")[0])
    if isinstance(value, dict):
        value = value.get("score")
    return float(value) if isinstance(value, bool) or is_number(value) else None
