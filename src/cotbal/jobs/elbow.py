"""The elbow of a loss curve: after how much data a task stops to learn quickly (Fig. 3 and Appendix
C of the paper).

A mini should be about as large: enough to learn a task's format, too little for what only its full
data teaches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float

POINTS = 60  # of a curve: more would overlap in a small panel
FEWEST = 6  # points; fewer have no elbow worth the name
ROUNDING = 1e-9  # relative: a fall below this is arithmetic
SIDE = 2  # points on each side of an elbow at least


def elbow(
    fractions: Float[np.ndarray, " point"], losses: Float[np.ndarray, " point"]
) -> float | None:
    """Where two straight lines that meet follow a curve best, by least squares; None where the
    curve has no elbow.

    Args:
        fractions: how much was seen, ascending.
        losses: the loss there.

    A curve has an elbow if it falls, and falls less steeply after it.
    """
    if len(fractions) < FEWEST:
        return None
    fits = [_hinge(fractions, losses, at) for at in fractions[SIDE:-SIDE]]
    at, before, after, _ = min(fits, key=lambda fit: fit[3])
    fall = before * (float(fractions[0]) - at)
    smallest = ROUNDING * float(np.abs(losses).max())
    is_elbow = fall > smallest and before < after
    return at if is_elbow else None


def _hinge(
    fractions: Float[np.ndarray, " point"], losses: Float[np.ndarray, " point"], at: float
) -> tuple[float, float, float, float]:
    """The hinge, the slopes before and after it, and the sum of squares that is left."""
    columns = np.stack(
        [np.ones_like(fractions), np.minimum(fractions - at, 0.0), np.maximum(fractions - at, 0.0)],
        axis=1,
    )
    solution, *_ = np.linalg.lstsq(columns, losses, rcond=None)
    return (
        float(at),
        float(solution[1]),
        float(solution[2]),
        float(np.square(losses - columns @ solution).sum()),
    )


def mini_rate(elbows: list[float]) -> Fraction:
    """The portion 1/k that holds the latest elbow of all tasks; `elbows` are shares of a task's
    data."""
    return Fraction(1, max(1, int(1 / max(elbows))))


def curve(rows: Sequence[Mapping[str, Any]], task: str) -> tuple[tuple[float, float], ...]:
    """(epoch, loss) of one task, averaged by tokens so that at most `POINTS` points are left."""
    seen = [row for row in rows if task in row.get("task_losses", {})]
    size = math.ceil(len(seen) / POINTS)
    points = []
    for start in range(0, len(seen), size or 1):
        points.append(_mean(seen[start : start + size], task))
    return tuple(points)


def _mean(rows: Sequence[Mapping[str, Any]], task: str) -> tuple[float, float]:
    total = tokens = 0.0
    for row in rows:
        count = row["task_tokens"][task]
        total += row["task_losses"][task] * count
        tokens += count
    epoch = sum(row["epoch"] for row in rows) / len(rows)
    return epoch, total / tokens


def elbow_of(rows: Sequence[Mapping[str, Any]], task: str) -> float | None:
    """The epoch at which the loss of a task bends, within the first epoch."""
    points = [(x, y) for x, y in curve(rows, task) if x <= 1.0]
    if not points:
        return None
    fractions, losses = np.array(points).T
    return elbow(fractions, losses)
