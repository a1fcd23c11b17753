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
from cotbal.scores.measure import given_by, is_stale, load_metric, measure, source_of
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
    """The scores of one run on one split, made from the kept answers where a metric is missing or
    its code has changed.

    Raises:
        RunError: scores that only another command can give are missing, or scores have to be made
            and the answers are not there.
    """
    content = _up_to_date(paths, task, split, metrics)
    for metric in metrics:
        if metric not in content["metrics"]:
            raise RunError(
                f"{paths.scores(task, split)}: expected scores of the metric {metric}; found none:"
                f" run `{given_by(metric)}` on the run directory, then this command again"
            )
    return content


def awaited(paths: RunPaths, task: str, split: str, metrics: Sequence[str]) -> list[str]:
    """The metrics of a finished run whose scores another command has still to give; all other
    scores are up to date then, as after `scores_of`.
    """
    known = _up_to_date(paths, task, split, metrics)["metrics"]
    return [metric for metric in metrics if metric not in known]


def _up_to_date(paths: RunPaths, task: str, split: str, metrics: Sequence[str]) -> dict[str, Any]:
    known = read_scores_file(paths, task, split)["metrics"]
    stale = [each for each in metrics if is_stale(each, known.get(each, {}).get("source"))]
    if stale:
        write_scores(paths, task, split, stale)
    return read_scores_file(paths, task, split)


def read_scores_file(paths: RunPaths, task: str, split: str) -> dict[str, Any]:
    """The file of scores as `write_scores` writes it; without any metric where there is none."""
    file = paths.scores(task, split)
    content: dict[str, Any] = read_json(file) if file.exists() else {"metrics": {}}
    return content


def write_scores(paths: RunPaths, task: str, split: str, metrics: Sequence[str]) -> None:
    """Score the kept answers with these metrics: per-sample values, totals, and the score of the
    best constant answer. Scores of other metrics, and those that another command gives, are kept.

    Raises:
        RunError: the answers are not there.
    """
    if not paths.generations(task, split).exists():
        raise RunError(
            f"{paths.generations(task, split)}: expected the answers that {', '.join(metrics)} has"
            " to score; found no such file"
        )
    rows = read_jsonl(paths.generations(task, split))
    entries = read_scores_file(paths, task, split)["metrics"]
    entries |= {metric: _scored(metric, rows) for metric in metrics if not given_by(metric)}
    content = {"task": task, "split": split, **describe(rows), "metrics": entries}
    write_json(paths.scores(task, split), content)


def describe(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many answers there are, and which of them are about one image."""
    return {"n": len(rows), "clusters": clusters([row["images"] for row in rows])}


def _scored(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    metric = load_metric(name)
    references = [row["references"] for row in rows]
    measured = measure(name, [row["answer"] for row in rows], references, rows)
    constant = metric.constant_answer(references)
    of_constant = measure(name, [constant] * len(rows), references, rows)
    maximum, source = float(metric.MAXIMUM), source_of(name)
    return MetricScores(measured, maximum, of_constant, constant, source).to_json()


def clusters(images: Sequence[Sequence[str]]) -> list[int]:
    """Number of the cluster of every sample: samples on the same image share one, a text-only
    sample has its own.
    """
    numbers: dict[Any, int] = {}
    return [
        numbers.setdefault(tuple(p) if p else ("text", i), len(numbers))
        for i, p in enumerate(images)
    ]
