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
    compared = list(next(iter(comparison.against.values())).per_task)
    left_out = _without_score(_rows_of(comparison, compared, reference), reference)
    tasks = [task for task in compared if task not in left_out]
    if not tasks:
        return None
    rows = _rows_of(comparison, tasks, reference)
    noise = _of_seeds(models, tasks, rows, reference)
    if noise is None:
        noise = _of_replicates(contents, tasks, rows, reference)
    if noise is None:
        return None
    return replace(noise, left_out=left_out)


def _rows_of(comparison: Comparison, tasks: Sequence[str], reference: str) -> list[Row]:
    """The rows of these tasks in which the reference has a score."""
    return [row for row in comparison.rows if row.task in tasks and reference in row.scores]


def _without_score(rows: Sequence[Row], reference: str) -> tuple[str, ...]:
    """Tasks where the reference does not score above 0.

    Their change is 0 where all methods score 0, but a spread in % of 0 has no meaning.
    """
    tasks: dict[str, None] = {}  # an ordered set
    for row in rows:
        if row.scores[reference] <= 0:
            tasks[row.task] = None
    return tuple(tasks)


def _of_seeds(
    models: Models, tasks: Sequence[str], rows: Sequence[Row], reference: str
) -> SeedNoise | None:
    """From the methods that were trained with several seeds."""
    names = []
    groups = []
    for name, by_seed in models.items():
        complete = [scores for scores in by_seed.values() if _has(scores, rows)]
        if len(complete) < 2:
            continue
        relative = [_relative(scores, tasks, rows, reference) for scores in complete]
        label = method_label(name)
        names.append(f"{len(complete)} seeds of {label}")
        groups.append(np.array(relative))
    if not groups:
        return None
    deviations = PAIR * pooled_deviation(groups)
    per_task = dict(zip(tasks, deviations.tolist(), strict=True))
    means = [values.mean(axis=1, keepdims=True) for values in groups]
    deviation_of_mean = PAIR * pooled_deviation(means)
    average = float(deviation_of_mean.item())
    return SeedNoise(per_task, low=average, high=average, source=listed(names))


def _has(scores: Scores, rows: Sequence[Row]) -> bool:
    """Whether a model has a score for each of these rows."""
    for row in rows:
        of_split = scores.get((row.task, row.split))
        if of_split is None or row.metric not in of_split.metrics:
            return False
    return True


def _relative(
    scores: Scores, tasks: Sequence[str], rows: Sequence[Row], reference: str
) -> list[float]:
    """Score of each task in % of the reference's, the mean over its metrics."""
    by_task: dict[str, list[float]] = {task: [] for task in tasks}
    for row in rows:
        of_split = scores[row.task, row.split]
        score = of_split.metrics[row.metric].measured.score
        percent = 100 * score / row.scores[reference]
        by_task[row.task].append(percent)
    return [float(np.mean(values)) for values in by_task.values()]


def pooled_deviation(
    groups: Sequence[Float[np.ndarray, "seed task"]],
) -> Float[np.ndarray, " task"]:
    """Standard deviation between seeds, pooled over groups with means of their own."""
    squares = np.zeros(groups[0].shape[1])
    degrees_of_freedom = 0
    for values in groups:
        deviations = values - values.mean(axis=0)
        squares += (deviations**2).sum(axis=0)
        degrees_of_freedom += len(values) - 1
    variance = squares / degrees_of_freedom
    return np.sqrt(variance)


def _of_replicates(
    contents: Contents, tasks: Sequence[str], rows: Sequence[Row], reference: str
) -> SeedNoise | None:
    """From the training noise of the probes, where it is known for every task."""
    if contents.balance is None:
        return None
    deviations = contents.balance.training_noise
    per_task: dict[str, float] = {}
    for row in rows:
        task = row.task
        if task in per_task or task not in deviations:
            continue
        if row.metric == contents.metric_name(task, row.metric):
            deviation = PAIR * deviations[task].value
            per_task[task] = 100 * deviation / row.scores[reference]
    if set(per_task) != set(tasks):
        return None
    values = np.array([per_task[task] for task in tasks])
    if_independent = float(np.linalg.norm(values)) / len(values)
    if_together = float(values.mean())
    return SeedNoise(
        per_task,
        low=if_independent,
        high=if_together,
        source="replicates of the probes",
    )
