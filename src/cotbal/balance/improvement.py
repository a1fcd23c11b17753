"""Improvement and error over a baseline, Eq. 12-14."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cotbal.errors import ScoresError
from cotbal.scores.results import Column, Results


def relative_change(
    scores: Float[np.ndarray, "*draw metric"],
    baseline: Float[np.ndarray, "*draw metric"],
    higher_is_better: Bool[np.ndarray, " metric"],
) -> Float[np.ndarray, "*draw metric"]:
    """Change of every metric against the baseline, in % of the baseline; a gain is positive.

    A metric that did not change has change 0, whatever the baseline; any other change against a
    baseline that is not positive has no meaning and is NaN.
    """
    sign = np.where(higher_is_better, 1.0, -1.0)
    known = baseline > 0
    divisor = np.where(known, baseline, 1.0)
    change = 100 * sign * (scores - baseline) / divisor
    with_meaning = np.where(known, change, np.nan)
    return np.where(scores == baseline, 0.0, with_meaning)


def task_improvement(
    scores: Float[np.ndarray, "*draw metric"],
    baseline: Float[np.ndarray, "*draw metric"],
    higher_is_better: Bool[np.ndarray, " metric"],
) -> Float[np.ndarray, "*draw"]:
    """Mean relative change of a task's metrics against the baseline, in %, Eq. 12; NaN where one
    has no meaning.
    """
    changes = relative_change(scores, baseline, higher_is_better)
    return np.asarray(np.mean(changes, axis=-1))


def improvement(per_task: Float[np.ndarray, "*draw task"]) -> Float[np.ndarray, "*draw"]:
    """Mean of the tasks' improvements, in %, Eq. 13."""
    return np.asarray(np.mean(per_task, axis=-1))


def error(per_task: Float[np.ndarray, "*draw task"]) -> Float[np.ndarray, "*draw"]:
    """Mean over tasks of `max(0, -improvement)`, in %, Eq. 14: losses of tasks, without the
    gains of others.
    """
    losses = np.maximum(0.0, -per_task)
    return np.asarray(np.mean(losses, axis=-1))


def task_improvements(
    values: Float[np.ndarray, "*draw method column"], columns: tuple[Column, ...], baseline: int
) -> Float[np.ndarray, "*draw method task"]:
    """Eq. 12 of every method and task; the tasks are in order of first appearance among the
    columns.
    """
    better = np.array([column.higher_is_better for column in columns])
    reference = np.broadcast_to(values[..., baseline : baseline + 1, :], values.shape)
    changes = []
    for task in dict.fromkeys(column.task for column in columns):
        chosen = np.array([column.task == task for column in columns])
        scores = values[..., chosen]
        baselines = reference[..., chosen]
        change = task_improvement(scores, baselines, better[chosen])
        changes.append(change)
    return np.stack(changes, axis=-1)


@dataclass(frozen=True)
class Overall:
    """One method against the baseline, in %: Eq. 13, Eq. 14, and Eq. 12 of every task."""

    improvement: float
    error: float
    tasks: Mapping[str, float]


def overall(results: Results, baseline: str) -> dict[str, Overall]:
    """Eq. 12-14 for every method of a table of results, the baseline included.

    Raises:
        ScoresError: the baseline is not in the table, or one of its metrics is not
            positive where another method's is different.
    """
    row = results.row(baseline)
    changes = task_improvements(results.values, results.columns, row)
    if np.isnan(changes).any():
        low = []
        for column, value in zip(results.columns, results.values[row], strict=True):
            if value <= 0:
                low.append(f"{column} ({value:g})")
        raise ScoresError(
            f"{baseline}: expected scores above 0, since changes are relative to them; found"
            f" {', '.join(low)}; leave these columns out, or take another baseline"
        )
    by_method = {}
    for method, per_task in zip(results.methods, changes, strict=True):
        by_method[method] = Overall(
            improvement=float(improvement(per_task)),
            error=float(error(per_task)),
            tasks=dict(zip(results.tasks, per_task.tolist(), strict=True)),
        )
    return by_method
