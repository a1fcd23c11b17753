"""Coordinates of a trial: the doublings of its weights, Eq. R1."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from cotbal.response.shapes import Basis, Features, PerTask

Point = Float[np.ndarray, "*trial task"]


def doublings(weights: Point) -> Point:
    """`log2` of positive weights with mean 0, Eq. R1, since only the ratios of weights matter."""
    logs = np.log2(weights)
    return logs - logs.mean(axis=-1, keepdims=True)


def weights_at(z: PerTask) -> PerTask:
    """The weights with mean 1 at `z` doublings."""
    weights = np.exp2(z)
    return weights / weights.mean()


def undetermined(slopes: Features, smallest: float = 1e-15) -> PerTask:
    """How much of each weight's effect the trials do not determine: 0 (determined) to 1.

    Args:
        slopes: coordinates of every trial in the basis of `directions`.
        smallest: relative to the largest, below which a direction counts as not tried.
    """
    basis = directions(slopes.shape[1] + 1)
    inverse = np.linalg.pinv(slopes, rcond=smallest)
    determined = basis @ (inverse @ slopes)
    return np.linalg.norm(basis - determined, axis=1)


def directions(tasks: int) -> Basis:
    """Orthonormal columns that span the changes of the ratios of weights."""
    basis = np.zeros((tasks, tasks - 1))
    for k in range(1, tasks):
        column = basis[:, k - 1]
        column[:k] = 1
        column[k] = -k
        column /= math.sqrt(k * (k + 1))
    return basis
