"""The noise of a training by task, from the residuals of few trials: Eq. R7.

A variance from few degrees of freedom is itself noisy, so it is moderated: pulled toward what the
tasks have in common, as far as they agree. With `s_t^2` from `d` degrees of freedom and a scaled
inverse chi-square prior `(s_0^2, d_0)`, the posterior is `(d_0 s_0^2 + d s_t^2) / (d_0 + d)` with
`d_0 + d` degrees of freedom (Smyth 2004, limma); `d_0` and `s_0` follow from mean and variance of
`log s_t^2`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cotbal.response.shapes import PerScore

SMALLEST = 1e-12  # variance of a score that never moves, in % squared


@dataclass(frozen=True)
class Noise:
    """Noise of one run by task.

    Attributes:
        deviation: standard deviation, moderated, in the unit of the residuals.
        freedom: degrees of freedom behind each, those of the prior included.
        raw: standard deviation from the task's own residuals alone.
    """

    deviation: PerScore
    freedom: PerScore
    raw: PerScore


def moderated_noise(squares: PerScore, freedom: int) -> Noise:
    """Noise from sums of squared residuals.

    Args:
        squares: sum of squared residuals of every task.
        freedom: degrees of freedom of each, at least 1.
    """
    tasks = len(squares)
    variances = np.maximum(squares / freedom, SMALLEST)
    prior_freedom, prior = _prior(variances, freedom)
    total = min(prior_freedom + freedom, freedom * tasks)  # never more than was measured
    weight = freedom / (freedom + prior_freedom)
    posterior = (1 - weight) * prior + weight * variances
    return Noise(
        deviation=np.sqrt(posterior),
        freedom=np.full(tasks, float(total)),
        raw=np.sqrt(variances),
    )


def _prior(variances: PerScore, freedom: int) -> tuple[float, float]:
    """Degrees of freedom and variance of the prior; no prior for a single task."""
    if len(variances) < 2:
        return 0.0, float(variances[0])
    half = freedom / 2
    logs = np.log(variances) - digamma(half)
    logs += math.log(half)
    scatter = float(np.var(logs, ddof=1))
    excess = scatter - trigamma(half)
    if excess <= 0:  # the tasks do not differ in their noise by more than chance
        return freedom * 1e6, float(variances.mean())
    prior_half = inverse_trigamma(excess)
    log_variance = logs.mean() + digamma(prior_half)
    log_variance -= math.log(prior_half)
    return 2 * prior_half, float(np.exp(log_variance))


def digamma(x: float) -> float:
    """Derivative of the logarithm of the gamma function, for positive `x`."""
    value = 0.0
    while x < 8:
        value -= 1 / x
        x += 1
    square = 1 / (x * x)
    series = 1 / 252 - square / 240
    series = 1 / 120 - square * series
    series = 1 / 12 - square * series
    return value + math.log(x) - 0.5 / x - square * series


def trigamma(x: float) -> float:
    """Derivative of `digamma`, for positive `x`."""
    value = 0.0
    while x < 8:
        value += 1 / (x * x)
        x += 1
    square = 1 / (x * x)
    series = 1 / 42 - square / 30
    series = 1 / 30 - square * series
    series = 1 / 6 - square * series
    return value + 1 / x + square / 2 + square * series / x


def inverse_trigamma(value: float) -> float:
    """The positive `x` with `trigamma(x) = value`, by bisection."""
    low = 1e-8
    high = 1e8
    for _ in range(200):
        middle = math.sqrt(low * high)
        if trigamma(middle) > value:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)
