"""How much weights can raise the mean over tasks: Eq. R13."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.response.departure import Departure
from cotbal.response.lever import Lever
from cotbal.response.response import UPPER, Response
from cotbal.response.shapes import Covariance, PerScore, PerTask
from cotbal.scores.interval import Interval

DRAWS = 500
SEED = 0
DrawTask = Float[np.ndarray, "draw task"]
PerDraw = Float[np.ndarray, " draw"]
STEPS = 5  # of projected gradient ascent per draw, from a start that is nearly best


@dataclass(frozen=True)
class Headroom:
    """The largest gain of the mean that weights can give within the allowed step, without floors.

    Attributes:
        gain: in % of the scores at equal weights. Its upper bound holds what the trials do not
            exclude, its lower bound what the best known weights give at least.
        max_step: largest allowed doubling of a weight.
        lever: what the weights are.
    """

    gain: Interval
    max_step: float
    lever: Lever

    @property
    def sentence(self) -> str:
        """For a person."""
        gain, several = self.gain, self.lever.several
        doublings = "doubling" if self.max_step == 1 else "doublings"
        value = f"{gain.value:.1f} % [{gain.low:.1f}, {gain.high:.1f}]"
        return (
            f"Without floors, {several} within {self.max_step:g} {doublings} of equal ones can"
            f" raise the mean on this mixture by {value}; equal {several} are within"
            f" {gain.high:.1f} % of the best of these."
        )

    def to_json(self) -> dict[str, Any]:
        """`gain` with its interval, the largest step, and the sentence."""
        return {
            "gain": self.gain.to_json(),
            "max_step": self.max_step,
            "floors": False,
            "sentence": self.sentence,
        }


def headroom(response: Response, max_step: float) -> Headroom:
    """Largest gain of the mean, see `Response.counted`.

    The upper bound is the 97.5th percentile, over draws of the response from its posterior, of the
    largest gain in the draw. The lower bound is that of the gain at the best predicted weights, at
    least 0.
    """
    counted = [name in response.counted for name in response.scored]
    if not any(counted):
        nothing = Interval(float("nan"))
        return Headroom(nothing, max_step, response.lever)
    shares = np.array(counted) / sum(counted)
    best = _best_step(response, shares, max_step)
    gain = response.combined(best, shares)
    slopes, curves = _draws(response, shares)
    departure = response.combined_departure(shares)
    steps = _maxima(slopes, curves, departure, max_step)
    linear = np.einsum("nt,nt->n", steps, slopes)
    gains = linear + curves * departure(steps)[:, 0]
    high = float(np.quantile(gains, UPPER))
    bounded = Interval(
        value=gain.value,
        low=max(gain.low, 0.0),
        high=max(high, gain.value),
        noise=gain.noise,
    )
    return Headroom(bounded, max_step, response.lever)


def _best_step(response: Response, shares: PerScore, max_step: float) -> PerTask:
    """Where the predicted weighted mean is largest."""
    slope = response.effects @ shares
    curve = response.curvature @ shares
    curves = np.array([curve])
    departure = response.combined_departure(shares)
    [step] = _maxima(slope[None], curves, departure, max_step)
    return step


def _draws(response: Response, shares: PerScore) -> tuple[DrawTask, PerDraw]:
    """Slopes and curvature of the mean as the trials leave them possible: Student's t."""
    covariance, freedom = response.combination(shares)
    mean = shares @ response.mean
    drawn = mean + _student_t(covariance, freedom)
    curves = np.zeros(DRAWS)
    if response.curved:
        curves = np.minimum(drawn[:, -1], 0.0)
    directions = len(response.tasks) - 1
    slopes = drawn[:, :directions] @ response.basis.T
    return slopes, curves


def _student_t(covariance: Covariance, freedom: float) -> Float[np.ndarray, "draw coefficient"]:
    """Draws from a multivariate t distribution with mean 0."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 0)  # rounding may make them negative
    generator = np.random.default_rng(SEED)
    normal = generator.standard_normal((DRAWS, len(values)))
    normal *= np.sqrt(values)
    chi_square = generator.chisquare(freedom, DRAWS)
    spread = np.sqrt(freedom / chi_square)
    away = normal @ vectors.T
    return spread[:, None] * away


def _maxima(slopes: DrawTask, curves: PerDraw, departure: Departure, max_step: float) -> DrawTask:
    """Where `slope . z + curve D(z)` is largest with mean 0 and |z| at most `max_step`, by
    projected gradient ascent from the maximum for `D = |z|^2`.
    """
    steepness = np.linalg.norm(slopes, axis=1) / max_step
    least = 1e-3 * steepness + 1e-12
    curvature = np.maximum(-2 * curves, least)[:, None]
    z = _projected(slopes / curvature, max_step)
    for _ in range(STEPS):
        gradient = slopes + curves[:, None] * departure.gradient(z)[:, 0]
        step = 0.5 * gradient / curvature
        z = _projected(z + step, max_step)
    return z


def _projected(z: DrawTask, limit: float) -> DrawTask:
    """The nearest points with mean 0 inside the box, by bisection on the shift."""
    low = z.min(axis=1) - limit
    high = z.max(axis=1) + limit
    for _ in range(30):
        shift = (low + high) / 2
        moved = np.clip(z - shift[:, None], -limit, limit)
        above = moved.sum(axis=1) > 0
        low = np.where(above, shift, low)
        high = np.where(above, high, shift)
    return moved
