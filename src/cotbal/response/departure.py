"""How far weights are from equal ones, as the curvature of every score counts it: Eq. R3 to R5.

A change of weights costs every score something, whatever its direction, for two reasons:

- all scores suffer when any weights differ (Eq. R3);
- a score gains less from more of its own weight than it loses from less of it (Eq. R4).

A `Departure` is the weighted sum of both (Eq. R5). Trials that change some weights and leave others
as they are separate the two. In a two-level design all weights change at once, so it shows mostly
their sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cotbal.response.coordinates import Point
from cotbal.response.shapes import PerScore, PerTask, ScoreTask

LN2 = math.log(2)
TaskTask = Float[np.ndarray, "task task"]
Departures = Float[np.ndarray, "*trial score"]
Gradients = Float[np.ndarray, "*trial score task"]
Hessians = Float[np.ndarray, "score task task"]


def joint_departure(z: Point) -> Float[np.ndarray, "*trial"]:
    """Distance of all weights from equal ones, Eq. R3: `T / ln 2 (log2 mean 2^z + log2 mean 2^-z)`.

    It is `|z|^2` near 0, even and convex, and grows linearly far away, where a square would
    predict absurd losses: on 512 mixtures between the corners of a simplex it predicts better than
    the square (benchmarks/response_regmix.py).
    """
    size = z.shape[-1]
    up = np.exp2(z).mean(axis=-1)
    down = np.exp2(-z).mean(axis=-1)
    both = np.log2(up) + np.log2(down)
    return size / LN2 * both


def joint_gradient(z: Point) -> Point:
    """Gradient of `joint_departure`."""
    rise = _shares(z) - _shares(-z)
    return z.shape[-1] / LN2 * rise


def joint_hessian(z: PerTask) -> TaskTask:
    """Second derivatives of `joint_departure`."""
    up = _shares(z)
    down = _shares(-z)
    second = np.diag(up + down)
    second -= np.outer(up, up)
    second -= np.outer(down, down)
    return len(z) * second


def _shares(z: Point) -> Point:
    """The weights with sum 1 at `z` doublings."""
    weights = np.exp2(z)
    return weights / weights.sum(axis=-1, keepdims=True)


def single_departures(z: Point) -> Point:
    """Distance of every weight from an equal one, Eq. R4: `2 T / ln 2 log2 cosh(z ln 2)`.

    It is `T z^2` near 0. It equals `joint_departure` at weights of which half are raised by `z`
    and the others lowered by `z`.
    """
    both = np.logaddexp2(z, -z) - 1
    return 2 * z.shape[-1] / LN2 * both


def single_gradients(z: Point) -> Point:
    """Derivative of every one of `single_departures` in its weight."""
    return 2 * z.shape[-1] / LN2 * np.tanh(z * LN2)


def single_curves(z: PerTask) -> PerTask:
    """Second derivative of every one of `single_departures` in its weight."""
    return 2 * len(z) / np.cosh(z * LN2) ** 2


@dataclass(frozen=True)
class Departure:
    """The departure of every score, Eq. R5: `(1 - share)` times that of all weights, plus `share`
    times that of its own weight. A score without a weight of its own has that of all weights.

    Attributes:
        is_own: 1 where the task's weight is the score's own.
        share: of the curvature that is due to the score's own weight, 0 to 1.
        error: standard error of the share.
    """

    is_own: ScoreTask
    share: float = 0.0
    error: float = 0.0

    def __call__(self, z: Point) -> Departures:
        """The departure of every score."""
        joint = joint_departure(z)[..., None]
        return joint + self.share * self.excess(z)

    def gradient(self, z: Point) -> Gradients:
        """Of the departure of every score."""
        joint = joint_gradient(z)[..., None, :]
        return joint + self.share * self.excess_gradient(z)

    def hessian(self, z: PerTask) -> Hessians:
        """Of the departure of every score."""
        return joint_hessian(z) + self.share * self.excess_hessian(z)

    def excess(self, z: Point) -> Departures:
        """Departure of the score's own weight minus that of all; 0 without an own weight."""
        single = single_departures(z) @ self.is_own.T
        joint = joint_departure(z)[..., None]
        return single - self._has_own * joint

    def excess_gradient(self, z: Point) -> Gradients:
        """Of the excess."""
        single = self.is_own * single_gradients(z)[..., None, :]
        joint = joint_gradient(z)[..., None, :]
        return single - self._has_own[:, None] * joint

    def excess_hessian(self, z: PerTask) -> Hessians:
        """Of the excess."""
        curves = self.is_own * single_curves(z)
        single = np.einsum("st,tu->stu", curves, np.eye(len(z)))
        joint = joint_hessian(z)
        return single - self._has_own[:, None, None] * joint

    @property
    def _has_own(self) -> PerScore:
        """1, or 0 for a score without an own weight."""
        return self.is_own.sum(axis=1)

    def combined(self, curvatures: PerScore) -> Departure:
        """The departure of a sum of scores: theirs, weighted by their curvatures in the sum."""
        of_sum = curvatures @ self.is_own / curvatures.sum()
        return Departure(of_sum[None], self.share, self.error)
