"""Improvement and error over a baseline, Eq. 12-14."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from cotbal.errors import ScoresError


def task_improvement(
    scores: Float[np.ndarray, "*seed metric"],
    baseline: Float[np.ndarray, "*seed metric"],
    higher_is_better: Bool[np.ndarray, " metric"],
) -> Float[np.ndarray, "*seed"]:
    """Mean relative change of a task's metrics against the baseline, in %, Eq. 12; a gain is positive.

    Raises:
        ScoresError: a baseline metric is zero, so that a relative change has no meaning.
    """
    if np.any(baseline == 0):
        raise ScoresError("improvement: a metric of the baseline is 0, so its relative change has no meaning")
    sign = np.where(higher_is_better, 1.0, -1.0)
    return np.asarray(np.mean(100 * sign * (scores - baseline) / baseline, axis=-1))


def improvement(per_task: Float[np.ndarray, "*seed task"]) -> Float[np.ndarray, "*seed"]:
    """Mean of the tasks' improvements, in %, Eq. 13."""
    return np.asarray(np.mean(per_task, axis=-1))


def error(per_task: Float[np.ndarray, "*seed task"]) -> Float[np.ndarray, "*seed"]:
    """Mean over tasks of `max(0, -improvement)`, in %, Eq. 14: what tasks lost, gains of others left out."""
    return np.asarray(np.mean(np.maximum(0.0, -per_task), axis=-1))


def improvements(
    scores: Mapping[str, Sequence[float]],
    baseline: Mapping[str, Sequence[float]],
    higher_is_better: Mapping[str, Sequence[bool]] | None = None,
) -> dict[str, float]:
    """Task -> improvement (Eq. 12) from the metrics of every task, in %.

    A task whose metrics are all equal to the baseline has improvement 0 even where the baseline is 0.
    """
    result = {}
    for task, values in scores.items():
        ours, theirs = np.array(values, dtype=float), np.array(baseline[task], dtype=float)
        better = np.array((higher_is_better or {}).get(task, [True] * len(ours)), dtype=bool)
        result[task] = 0.0 if np.array_equal(ours, theirs) else float(task_improvement(ours, theirs, better))
    return result
