"""From the answers on disk to scores per sample and the score matrix; no model is needed, so scores
can be recomputed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from cotbal.data.files import as_written, read_json, read_sealed_rows, write_sealed
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
            answers.
        answered: name of the run -> the tasks that it answered, all by default; other cells are
            NaN.

    Raises:
        RunError: two runs answered different samples, so that they cannot be compared.
    """
    samples = {}
    for task, metric in metrics.items():
        cells = {
            run: paths for run, paths in probes.items() if answered is None or task in answered[run]
        }
        samples[task] = _column(cells, tuple(probes), task, metric)
    return matrix_of_samples(tuple(probes), samples)


def _column(cells: Mapping[str, RunPaths], rows: Sequence[str], task: str, metric: str) -> Samples:
    """The samples of one task; a row without a cell is NaN."""
    scores = {}
    for run, paths in cells.items():
        content = scores_of(paths, task, "validation", (metric,))
        with as_written(paths.scores(task, "validation")):
            scores[run] = task_scores(content)
    first_run, first = next(iter(scores.items()))
    for run, other in scores.items():
        if not np.array_equal(other.clusters, first.clusters):
            raise RunError(
                f"{task}, validation: {run} and {first_run} answered different samples; rerun them",
                "different-samples",
            )
    column = [scores[run].metrics[metric] if run in scores else None for run in rows]
    return sample_column(column, first.clusters)


def scores_of(paths: RunPaths, task: str, split: str, metrics: Sequence[str]) -> dict[str, Any]:
    """The scores of one run on one split, recomputed from the answers where a metric is missing or
    its code has changed.

    Raises:
        RunError: scores that only another command can give are missing, or scores have to be
            computed without the answers.
    """
    missing = awaited(paths, task, split, metrics)
    if missing:
        raise RunError(
            f"{paths.scores(task, split)}: expected scores of the metric {missing[0]}; found none:"
            f" run `{given_by(missing[0])}` on the run directory, then rerun this command",
            "missing-scores",
        )
    return read_scores_file(paths, task, split)


def awaited(paths: RunPaths, task: str, split: str, metrics: Sequence[str]) -> list[str]:
    """The metrics of a finished run whose scores another command has still to give; all others are
    brought up to date first.
    """
    content = read_scores_file(paths, task, split)
    with as_written(paths.scores(task, split)):
        scores = content["metrics"]
        stale = [name for name in metrics if is_stale(name, scores.get(name, {}).get("source"))]
    if stale:
        write_scores(paths, task, split, stale)
    return [name for name in metrics if name not in scores and name not in stale]


def read_scores_file(paths: RunPaths, task: str, split: str) -> dict[str, Any]:
    """The file that `write_scores` writes; without any metric where there is none, or a damaged one
    that can be computed again.

    Raises:
        RunError: it is damaged, and there are no answers.
    """
    file = paths.scores(task, split)
    try:
        content: dict[str, Any] = read_json(file) if file.exists() else {"metrics": {}}
    except RunError:
        if not paths.generations(task, split).exists():
            raise
        return {"metrics": {}}
    return content


def write_scores(paths: RunPaths, task: str, split: str, metrics: Sequence[str]) -> None:
    """Score the answers with these metrics: values per sample, totals, and the score of the best
    constant answer. Scores of other metrics, and those that another command gives, are kept.

    Raises:
        RunError: there are no answers.
    """
    answers = paths.generations(task, split)
    if not answers.exists():
        raise RunError(
            f"{answers}: expected the answers to score with {', '.join(metrics)}; found no such"
            " file",
            "missing-file",
        )
    rows = read_sealed_rows(answers)
    entries = read_scores_file(paths, task, split)["metrics"]
    entries |= {metric: scored(metric, rows) for metric in metrics if not given_by(metric)}
    content = {"task": task, "split": split, **describe(rows), "metrics": entries}
    write_sealed(paths.scores(task, split), content)


def describe(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The number of answers, and which of them are about the same image."""
    return {"n": len(rows), "clusters": clusters([row["images"] for row in rows])}


def scored(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The scores of answers with one metric, as the file of scores holds them."""
    metric = load_metric(name)
    references = [row["references"] for row in rows]
    measured = measure(name, [row["answer"] for row in rows], references, rows)
    constant = metric.constant_answer(references)
    of_constant = measure(name, [constant] * len(rows), references, rows)
    maximum, source = float(metric.MAXIMUM), source_of(name)
    return MetricScores(measured, maximum, of_constant, constant, source).to_json()


def clusters(images: Sequence[Sequence[str]]) -> list[int]:
    """Number of the cluster of every sample: samples on the same images share one, a text-only
    sample has one to itself.
    """
    numbers: dict[Any, int] = {}
    keys = [tuple(names) or ("text", index) for index, names in enumerate(images)]
    return [numbers.setdefault(key, len(numbers)) for key in keys]
