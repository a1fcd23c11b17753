"""Where a trial is: doublings of every weight, and how far it is from equal weights."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from cotbal.response.shapes import Basis, PerTask

LN2 = math.log(2)


def doublings(weights: Float[np.ndarray, "*trial task"]) -> Float[np.ndarray, "*trial task"]:
    """`log2` of positive weights with mean 0, since only the ratios of weights matter."""
    logs = np.log2(weights)
    return logs - logs.mean(axis=-1, keepdims=True)


def weights_at(z: PerTask) -> PerTask:
    """The weights with mean 1 at `z` doublings."""
    weights = np.exp2(z)
    return weights / weights.mean()


def departure(z: Float[np.ndarray, "*trial task"]) -> Float[np.ndarray, "*trial"]:
    """Distance from equal weights: `T / ln 2 (log2 mean 2^z + log2 mean 2^-z)`.

    It is `|z|^2` near 0, even and convex, and grows linearly far away, where a square would
    predict absurd losses: on 512 mixtures between the corners of a simplex it predicts better than
    the square (benchmarks/response_regmix.py).
    """
    size = z.shape[-1]
    both = np.log2(np.exp2(z).mean(axis=-1)) + np.log2(np.exp2(-z).mean(axis=-1))
    return size / LN2 * both


def departure_slopes(
    z: PerTask,
) -> tuple[PerTask, Float[np.ndarray, "task task"]]:
    """First and second derivatives of `departure`."""
    size = len(z)
    up, down = np.exp2(z) / np.exp2(z).sum(), np.exp2(-z) / np.exp2(-z).sum()
    second = np.diag(up + down) - np.outer(up, up) - np.outer(down, down)
    return size / LN2 * (up - down), size * second


def directions(tasks: int) -> Basis:
    """Orthonormal columns that span the changes of the ratios of weights."""
    basis = np.zeros((tasks, tasks - 1))
    for k in range(1, tasks):
        basis[:k, k - 1] = 1
        basis[k, k - 1] = -k
        basis[:, k - 1] /= math.sqrt(k * (k + 1))
    return basis
