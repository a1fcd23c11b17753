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
    x = freedom / (freedom + value * value)
    tail = 0.5 * _incomplete_beta(freedom / 2, 0.5, x)
    if value < 0:
        return tail
    return 1 - tail


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
    normal = NormalDist()
    value = normal.inv_cdf(probability)  # not above it, so that Newton's steps only rise
    for _ in range(STEPS):
        missing = probability - t_cdf(value, freedom)
        step = missing / _density(value, freedom)
        value += step
        if abs(step) < 1e-12 * (1 + value):
            break
    return value


def _density(value: float, freedom: float) -> float:
    half = (freedom + 1) / 2
    log_front = math.lgamma(half) - math.lgamma(freedom / 2)
    square = value * value
    log_body = half * math.log1p(square / freedom)
    scale = math.sqrt(freedom * math.pi)
    return math.exp(log_front - log_body) / scale


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    slow = x > (a + 1) / (a + b + 2)  # convergence of the fraction
    if slow:
        return 1 - _incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b)
    log_front -= math.lgamma(a)
    log_front -= math.lgamma(b)
    log_front += a * math.log(x)
    log_front += b * math.log1p(-x)
    front = math.exp(log_front) / a
    return front * _continued_fraction(a, b, x)


def _continued_fraction(a: float, b: float, x: float) -> float:
    """Lentz's method."""
    numerator = 1.0
    first = 1 - (a + b) * x / (a + 1)
    denominator = 1 / _not_zero(first)
    value = denominator
    for m in range(1, 1000):
        for term in _terms(a, b, x, m):
            denominator = 1 / _not_zero(1 + term * denominator)
            numerator = _not_zero(1 + term / numerator)
            change = numerator * denominator
            value *= change
        if abs(change - 1) < 1e-14:
            break
    return value


def _terms(a: float, b: float, x: float, m: int) -> tuple[float, float]:
    """The partial numerators `2 m` and `2 m + 1` of the continued fraction."""
    base = a + 2 * m
    even = m * (b - m) * x
    even /= (base - 1) * base
    odd = -(a + m) * (a + b + m) * x
    odd /= base * (base + 1)
    return even, odd


def _not_zero(value: float) -> float:
    return value if abs(value) > TINY else TINY
