"""The bend of a loss curve: after how much data a task stops to learn quickly (Fig. 3 and Appendix
C of the paper).

A mini should be about as large: enough to learn a task's format, too little for what only its full
data teaches.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from jaxtyping import Float

FEWEST = 6  # points; fewer have no bend worth the name
ROUNDING = 1e-9  # relative: a fall below this is arithmetic
SIDE = 2  # points on each side of a bend at least


def bend(amounts: Float[np.ndarray, " point"], losses: Float[np.ndarray, " point"]) -> float | None:
    """Where two straight lines that meet follow a curve best, by least squares; None where the
    curve has no bend.

    Args:
        amounts: how much was seen, ascending.
        losses: the loss there.

    A curve has a bend if it falls, and falls less steeply after it.
    """
    if len(amounts) < FEWEST:
        return None
    fits = [_hinge(amounts, losses, at) for at in amounts[SIDE:-SIDE]]
    at, before, after, _ = min(fits, key=lambda fit: fit[3])
    fall = before * (float(amounts[0]) - at)
    return at if fall > ROUNDING * float(np.abs(losses).max()) and before < after else None


def _hinge(
    amounts: Float[np.ndarray, " point"], losses: Float[np.ndarray, " point"], at: float
) -> tuple[float, float, float, float]:
    """The hinge, the slopes before and after it, and the sum of squares that is left."""
    columns = np.stack(
        [np.ones_like(amounts), np.minimum(amounts - at, 0.0), np.maximum(amounts - at, 0.0)],
        axis=1,
    )
    solution, *_ = np.linalg.lstsq(columns, losses, rcond=None)
    return (
        float(at),
        float(solution[1]),
        float(solution[2]),
        float(np.square(losses - columns @ solution).sum()),
    )


def mini_rate(bends: list[float]) -> Fraction:
    """The portion 1/k that holds the latest bend of all tasks; `bends` are shares of a task's
    data."""
    return Fraction(1, max(1, int(1 / max(bends))))
