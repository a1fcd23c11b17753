"""Answers kept on disk to per-sample scores to the score matrix; no model is needed, so scores can
be made again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from cotbal.data.files import read_json, read_jsonl, write_json
from cotbal.errors import RunError
from cotbal.scores.matrix import Samples, ScoreMatrix, matrix_of_samples
from cotbal.scores.measure import given_by, load_metric, measure
from cotbal.scores.task_scores import MetricScores, sample_column, task_scores
from cotbal.training.run_paths import RunPaths


def score_matrix(
    probes: Mapping[str, RunPaths],
    metrics: Mapping[str, str],
    answered: Mapping[str, Collection[str]] | None = None,
) -> ScoreMatrix:
    """The score matrix of finished probes on their validation sets, with the samples behind every
    cell.

    Args:
        probes: name of the run -> its files; the order is that of the rows.
        metrics: task -> metric; a run that was scored with another metric is scored again from its
            kept answers.
        answered: name of the run -> the tasks that it answered, all by default; other cells are
            NaN.

    Raises:
        RunError: two runs answered different samples, so that they cannot be compared.
    """
    given = answered or dict.fromkeys(probes, tuple(metrics))
    samples = {}
    for task, metric in metrics.items():
        cells = {run: paths for run, paths in probes.items() if task in given[run]}
        samples[task] = _column(cells, tuple(probes), task, metric)
    return matrix_of_samples(tuple(probes), samples)


def _column(probes: Mapping[str, RunPaths], rows: Sequence[str], task: str, metric: str) -> Samples:
    cells = {run: scores_of(paths, task, "validation", (metric,)) for run, paths in probes.items()}
    return column_of(cells, rows, f"{task}, validation", metric)


def column_of(
    cells: Mapping[str, Mapping[str, Any]], rows: Sequence[str], what: str, metric: str
) -> Samples:
    """The samples of one metric from the score files of several runs; a row without a cell is NaN.

    Raises:
        RunError: two runs answered different samples; `what` says which set.
    """
    scores = {run: task_scores(content) for run, content in cells.items()}
    first_run, first = next(iter(scores.items()))
    for run, other in scores.items():
        if not np.array_equal(other.clusters, first.clusters):
            raise RunError(
                f"{what}: {run} and {first_run} answered different samples; run them again"
            )
    column = [scores[run].metrics[metric] if run in scores else None for run in rows]
    return sample_column(column, first.clusters)


def scores_of(paths: RunPaths, task: str, split: str, metrics: Sequence[str]) -> dict[str, Any]:
    """The scores of one run on one split, made from the kept answers where a metric is still
    missing.

    Raises:
        RunError: scores that only another command can give are missing.
    """
    file = paths.scores(task, split)
    known = tuple(read_json(file)["metrics"]) if file.exists() else ()
    if set(metrics) - set(known):
        write_scores(paths, task, split, tuple(dict.fromkeys((*known, *metrics))))
    content: dict[str, Any] = read_json(file)
    for metric in metrics:
        if metric not in content["metrics"]:
            raise RunError(
                f"{file}: expected scores of the metric {metric}; found none: run"
                f" `{given_by(metric)}` on the run directory, then this command again"
            )
    return content


def write_scores(paths: RunPaths, task: str, split: str, metrics: Sequence[str]) -> None:
    """Score the kept answers: per-sample values, totals, and what the best constant answer would
    get.

    Scores that another command gives are kept where they are there, and left out where they are
    not.
    """
    file = paths.scores(task, split)
    rows = read_jsonl(paths.generations(task, split))
    given = read_json(file)["metrics"] if file.exists() else {}
    here = {
        metric: given.get(metric) if given_by(metric) else _scored(metric, rows)
        for metric in metrics
    }
    entries = {metric: entry for metric, entry in here.items() if entry is not None}
    write_json(file, {"task": task, "split": split, **describe(rows), "metrics": entries})


def describe(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many answers there are, and which of them are about one picture."""
    return {"n": len(rows), "clusters": clusters([row["images"] for row in rows])}


def awaited(paths: RunPaths, task: str, split: str, metrics: Sequence[str]) -> list[str]:
    """The metrics of a finished run whose scores another command has still to give."""
    outside = [metric for metric in metrics if given_by(metric)]
    if not outside:
        return []
    known = read_json(paths.scores(task, split))["metrics"]
    return [metric for metric in outside if metric not in known]


def _scored(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    metric = load_metric(name)
    references = [row["references"] for row in rows]
    measured = measure(name, [row["answer"] for row in rows], references, rows)
    constant = metric.constant_answer(references)
    of_constant = measure(name, [constant] * len(rows), references, rows)
    return MetricScores(measured, float(metric.MAXIMUM), of_constant, constant).to_json()


def clusters(pictures: Sequence[Sequence[str]]) -> list[int]:
    """Number of the cluster of every sample: samples on the same picture share one, a text-only
    sample has its own.
    """
    numbers: dict[Any, int] = {}
    return [
        numbers.setdefault(tuple(p) if p else ("text", i), len(numbers))
        for i, p in enumerate(pictures)
    ]
