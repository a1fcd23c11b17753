"""Student's t without a statistics library: its distribution function and quantiles."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

TINY = 1e-300
STEPS = 200  # at most, of Newton's method
LARGE = 1e6  # degrees of freedom from which on the normal distribution is exact to five digits


def t_cdf(value: float, freedom: float) -> float:
    """Probability that Student's t with `freedom` degrees of freedom is at most `value`."""
    if value == 0:
        return 0.5
    tail = 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + value * value))
    return 1 - tail if value > 0 else tail


@lru_cache(maxsize=4096)
def t_quantile(probability: float, freedom: float) -> float:
    """The value below which Student's t lies with `probability`, which is between 0 and 1.

    Args:
        probability: 0.975 for the bounds of a 95 % interval.
        freedom: positive, need not be a whole number; infinity gives the normal distribution.
    """
    freedom = min(freedom, LARGE)
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    value = NormalDist().inv_cdf(probability)  # not above it, so that Newton's steps only rise
    for _ in range(STEPS):
        step = (probability - t_cdf(value, freedom)) / _density(value, freedom)
        value += step
        if abs(step) < 1e-12 * (1 + value):
            break
    return value


def _density(value: float, freedom: float) -> float:
    log_front = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    log_body = (freedom + 1) / 2 * math.log1p(value * value / freedom)
    return math.exp(log_front - log_body) / math.sqrt(freedom * math.pi)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(log_front + a * math.log(x) + b * math.log1p(-x)) / a
    return front * _continued_fraction(a, b, x)


def _continued_fraction(a: float, b: float, x: float) -> float:
    """Lentz's method."""
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            change = c * d
            value *= change
        if abs(change - 1) < 1e-14:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > TINY else TINY
