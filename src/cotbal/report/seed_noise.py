"""How much two final models differ that were trained alike with other seeds.

A comparison with one training seed does not show it. Seeds of one of its methods do, or replicates
of the probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from cotbal.report.comparison import Comparison, Models, Row, Scores, SeedNoise
from cotbal.report.contents import Contents
from cotbal.report.formatting import listed
from cotbal.weightings import method_label

PAIR = 2**0.5  # standard deviation of a difference of two trainings, in those of one


def seed_noise(contents: Contents, models: Models, comparison: Comparison) -> SeedNoise | None:
    """What is known beside a comparison with one seed; None where nothing is, or with more seeds.

    Args:
        models: all methods of the run directory, with all their seeds.
    """
    reference = comparison.reference
    if len(comparison.seeds) > 1 or reference is None or not comparison.against:
        return None
    compared = next(iter(comparison.against.values())).per_task
    rows = [row for row in comparison.rows if row.task in compared and reference in row.scores]
    # Where all methods score 0 the change is 0, but a spread in % of 0 has no meaning.
    left_out = {row.task for row in rows if row.scores[reference] <= 0}
    tasks = [task for task in compared if task not in left_out]
    if not tasks:
        return None
    rows = [row for row in rows if row.task in tasks]
    noise = _of_seeds(models, tasks, rows, reference)
    if noise is None:
        noise = _of_replicates(contents, tasks, rows, reference)
    if noise is None:
        return None
    return replace(noise, left_out=tuple(task for task in compared if task in left_out))


def _of_seeds(
    models: Models, tasks: Sequence[str], rows: Sequence[Row], reference: str
) -> SeedNoise | None:
    """From the methods that were trained with several seeds."""
    names, groups = [], []
    for name, by_seed in models.items():
        complete = [scores for scores in by_seed.values() if _has(scores, rows)]
        if len(complete) > 1:
            relative = [_relative(scores, tasks, rows, reference) for scores in complete]
            names.append(f"{len(relative)} seeds of {method_label(name)}")
            groups.append(np.array(relative))
    if not groups:
        return None
    per_task = PAIR * pooled_deviation(groups)
    means = [values.mean(axis=1, keepdims=True) for values in groups]
    average = float((PAIR * pooled_deviation(means)).item())
    by_task = dict(zip(tasks, per_task.tolist(), strict=True))
    return SeedNoise(by_task, average, average, listed(names))


def _has(scores: Scores, rows: Sequence[Row]) -> bool:
    metrics = {key: of_task.metrics for key, of_task in scores.items()}
    return all(row.metric in metrics.get((row.task, row.split), {}) for row in rows)


def _relative(
    scores: Scores, tasks: Sequence[str], rows: Sequence[Row], reference: str
) -> list[float]:
    """Score of each task in % of the reference's, the mean over its metrics."""
    by_task: dict[str, list[float]] = {task: [] for task in tasks}
    for row in rows:
        measured = scores[row.task, row.split].metrics[row.metric].measured
        by_task[row.task].append(100 * measured.score / row.scores[reference])
    return [float(np.mean(values)) for values in by_task.values()]


def pooled_deviation(
    groups: Sequence[Float[np.ndarray, "seed task"]],
) -> Float[np.ndarray, " task"]:
    """Standard deviation between seeds, pooled over groups with means of their own."""
    squares = sum(((values - values.mean(axis=0)) ** 2).sum(axis=0) for values in groups)
    return np.sqrt(np.asarray(squares) / sum(len(values) - 1 for values in groups))


def _of_replicates(
    contents: Contents, tasks: Sequence[str], rows: Sequence[Row], reference: str
) -> SeedNoise | None:
    """From the training noise of the probes, where it is known for every task."""
    deviations = contents.balance.training_noise if contents.balance else {}
    per_task: dict[str, float] = {}
    for row in rows:
        is_same_metric = row.metric == contents.metric_name(row.task, row.metric)
        if row.task in deviations and is_same_metric and row.task not in per_task:
            deviation = deviations[row.task].value
            per_task[row.task] = 100 * PAIR * deviation / row.scores[reference]
    if set(per_task) != set(tasks):
        return None
    values = np.array([per_task[task] for task in tasks])
    independent = float(np.linalg.norm(values)) / len(values)
    return SeedNoise(per_task, independent, float(values.mean()), "replicates of the probes")
