"""How much weights can do for the mean over tasks, and how far equal weights are from the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.response.coordinates import departure
from cotbal.response.response import UPPER, Response
from cotbal.response.shapes import PerScore, PerTask
from cotbal.scores.interval import Interval

DRAWS = 500
SEED = 0
STEPS = 5  # of projected gradient ascent per draw, from a start that is nearly best


@dataclass(frozen=True)
class Headroom:
    """The largest gain of the mean that weights can give within the allowed step, unguarded.

    Attributes:
        gain: in % of the scores at equal weights. Its upper bound holds what the trials do not
            exclude, its lower bound what the best known weights give at least.
    """

    gain: Interval

    @property
    def sentence(self) -> str:
        """For a person."""
        gain = self.gain
        return (
            f"On this mixture, weights can raise the mean by {gain.value:.1f} %"
            f" [{gain.low:.1f}, {gain.high:.1f}]; equal weights are within {gain.high:.1f} % of the"
            " best."
        )

    def to_json(self) -> dict[str, Any]:
        """`gain` with its interval, and the sentence."""
        return {"gain": self.gain.to_json(), "sentence": self.sentence}


def headroom(response: Response, max_step: float) -> Headroom:
    """Largest gain of the mean over measurable tasks.

    The upper bound is the 97.5th percentile, over draws of the response from its posterior, of the
    largest gain in the draw. The lower bound is that of the gain at the best predicted weights, at
    least 0.
    """
    counted = np.array([name not in response.unmeasurable for name in response.scored], float)
    if not counted.any():
        return Headroom(Interval(float("nan")))
    shares = counted / counted.sum()
    slopes, curves = _draws(response, shares)
    best = _best_steps(response.effects @ shares, response.curvature @ shares, max_step)
    gain = response.combined(best, shares)
    steps = _maxima(slopes, curves, max_step)
    gains = np.einsum("nt,nt->n", steps, slopes) + curves * departure(steps)
    high = max(float(np.quantile(gains, UPPER)), gain.value)
    return Headroom(Interval(gain.value, max(gain.low, 0.0), high))


def _best_steps(slope: PerTask, curve: float, max_step: float) -> PerTask:
    return _maxima(slope[None], np.array([curve]), max_step)[0]


def _draws(
    response: Response, shares: PerScore
) -> tuple[Float[np.ndarray, "draw task"], Float[np.ndarray, " draw"]]:
    """Slopes and curvature of the mean as the trials leave them possible: Student's t."""
    covariance, freedom = response.combination(shares)
    mean = shares @ response.mean
    generator = np.random.default_rng(SEED)
    values, vectors = np.linalg.eigh(covariance)
    normal = generator.standard_normal((DRAWS, len(mean))) * np.sqrt(np.maximum(values, 0))
    spread = np.sqrt(freedom / generator.chisquare(freedom, DRAWS))
    drawn = mean + spread[:, None] * (normal @ vectors.T)
    size = len(response.tasks) - 1
    curves = np.minimum(drawn[:, -1], 0.0) if response.curved else np.zeros(DRAWS)
    return drawn[:, :size] @ response.basis.T, curves


def _maxima(
    slopes: Float[np.ndarray, "draw task"], curves: Float[np.ndarray, " draw"], max_step: float
) -> Float[np.ndarray, "draw task"]:
    """Where `slope . z + curve D(z)` is largest with mean 0 and |z| at most `max_step`, by
    projected gradient ascent from the maximum for `D = |z|^2`.
    """
    length = np.linalg.norm(slopes, axis=1) / max_step
    bend = np.maximum(-2 * curves, 1e-3 * length + 1e-12)[:, None]
    z = _projected(slopes / bend, max_step)
    for _ in range(STEPS):
        up, down = np.exp2(z), np.exp2(-z)
        first = up / up.mean(axis=1, keepdims=True) - down / down.mean(axis=1, keepdims=True)
        gradient = slopes + curves[:, None] * first / np.log(2)
        z = _projected(z + 0.5 * gradient / bend, max_step)
    return z


def _projected(z: Float[np.ndarray, "draw task"], limit: float) -> Float[np.ndarray, "draw task"]:
    """The nearest points with mean 0 inside the box, by bisection on the shift."""
    low, high = z.min(axis=1) - limit, z.max(axis=1) + limit
    for _ in range(30):
        shift = (low + high) / 2
        above = np.clip(z - shift[:, None], -limit, limit).sum(axis=1) > 0
        low, high = np.where(above, shift, low), np.where(above, high, shift)
    return np.clip(z - shift[:, None], -limit, limit)
