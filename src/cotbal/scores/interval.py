"""A number with its interval: how both follow from draws, which noise the interval holds, and the
words of a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

CONFIDENCE = 0.95
TAIL = 100 * (1 - CONFIDENCE) / 2  # percent of the draws beyond each bound
HALF_WIDTH = 1.96  # standard errors from the middle of a normal 95 % interval to its bounds

# What makes a score differ: the validation samples are finite, and another training seed gives
# another model.
Noise = Literal["samples", "training"]
ALL_NOISE: tuple[Noise, ...] = get_args(Noise)
SAMPLES: tuple[Noise, ...] = ("samples",)
TRAINING: tuple[Noise, ...] = ("training",)  # on the same validation samples
SAMPLING_ONLY = "sampling error only; another training seed may differ by more"


@dataclass(frozen=True)
class Interval:
    """A number and the bounds of its interval.

    Attributes:
        value: the estimate.
        low, high: NaN where it has no interval.
        noise: what the interval holds. Without `training` it says nothing about another training
            seed, and is not a confidence interval of what a user would get again.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    noise: tuple[Noise, ...] = ALL_NOISE

    def __str__(self) -> str:
        value = f"{self.value:z.3f}"
        if not self.has_bounds:
            return value
        return f"{value} [{self.low:z.3f}, {self.high:z.3f}]"

    @property
    def has_bounds(self) -> bool:
        """False where the value is not identified or nothing is known about its noise."""
        return not math.isnan(self.low)

    @property
    def half_width(self) -> float:
        """The smallest difference that such an interval can detect."""
        return (self.high - self.low) / 2

    def excludes(self, reference: float = 0.0) -> bool:
        """Whether the interval lies on one side of `reference`; False without bounds."""
        return self.low > reference or self.high < reference

    @property
    def holds_training(self) -> bool:
        """Whether the noise of training is in it, so that a verdict on it means something."""
        return self.has_bounds and "training" in self.noise

    def differs(self, reference: float = 0.0) -> bool:
        """Whether the value differs significantly from `reference`, the noise of training counted;
        False where that noise is not known.
        """
        return self.holds_training and self.excludes(reference)

    def verdict(self, reference: float = 0.0, name: str | None = None) -> str:
        """The value against `reference` in words; all outputs take these words from here.

        Args:
            name: of the reference; its number by default.
        """
        if not self.has_bounds:
            return "no interval"
        if not self.holds_training:
            return SAMPLING_ONLY
        return significance(self.excludes(reference), name or f"{reference:g}")

    def times(self, factor: float) -> Interval:
        """The same in another unit; `factor` is positive."""
        value = factor * self.value
        low = factor * self.low
        high = factor * self.high
        return Interval(value, low, high, self.noise)

    def to_json(self) -> dict[str, Any]:
        """`value`; `interval` as a pair, null without bounds; `holds`: the noise in it."""
        bounds = [self.low, self.high] if self.has_bounds else None
        holds = list(self.noise) if self.has_bounds else []
        return {"value": self.value, "interval": bounds, "holds": holds}


def hold_training(intervals: Iterable[Interval]) -> bool:
    """Whether every interval that has bounds holds the noise of training; False without any."""
    bounded = [interval for interval in intervals if interval.has_bounds]
    return bool(bounded) and all(interval.holds_training for interval in bounded)


def interval_name(intervals: Iterable[Interval]) -> str:
    """What to call these intervals in a header: a confidence level only where they hold the noise
    of training.
    """
    bounded = [interval for interval in intervals if interval.has_bounds]
    if not bounded:
        return "interval"
    return "95 % interval" if hold_training(bounded) else "sampling error only"


def noise_of_seeds(seeds: int) -> tuple[Noise, ...]:
    """The noise in draws over the samples and seeds of `seeds` trainings: one seed shows none."""
    return ALL_NOISE if seeds > 1 else SAMPLES


def interval_of_draws(
    draws: Float[np.ndarray, " draw"], noise: tuple[Noise, ...] = ALL_NOISE
) -> Interval:
    """The first draw is the estimate, the others are its resamples; without them it has no
    bounds.

    Args:
        noise: what makes the draws differ.
    """
    estimate = float(draws[0])
    if len(draws) == 1:
        return Interval(estimate, noise=noise)
    low, high = percentile_bounds(draws[1:])
    return Interval(estimate, float(low), float(high), noise)


def percentile_bounds(
    resampled: Float[np.ndarray, "resample *shape"],
) -> Float[np.ndarray, "*shape 2"]:
    """Bounds of the 95 % interval over the first axis; NaN where the quantity is not identified.

    A draw that is NaN, such as a ratio whose denominator is not positive in it, could be anything
    and so lies beyond both ends; with more than 2.5 % of such draws there is no interval.
    """
    low = _bound(resampled, TAIL, -np.inf, "higher")
    high = _bound(resampled, 100 - TAIL, np.inf, "lower")
    bounds = np.stack([low, high], axis=-1)
    is_known = np.isfinite(bounds).all(axis=-1, keepdims=True)
    return np.where(is_known, bounds, np.nan)


def _bound(
    resampled: Float[np.ndarray, "resample *shape"],
    percent: float,
    beyond: float,
    inward: Literal["higher", "lower"],
) -> Float[np.ndarray, "*shape"]:
    """A percentile; where draws are missing, the draw next to it, since there is no mean of a
    number and infinity.
    """
    missing = np.isnan(resampled)
    with_zeros = np.where(missing, 0.0, resampled)
    plain = np.percentile(with_zeros, percent, axis=0)
    if not missing.any():
        return np.asarray(plain)
    filled = np.where(missing, beyond, resampled)
    nearest = np.percentile(filled, percent, axis=0, method=inward)
    return np.where(missing.any(axis=0), nearest, plain)


def with_bounds(
    values: Sequence[float] | Float[np.ndarray, " unit"],
    bounds: Float[np.ndarray, "unit 2"] | None,
    noise: tuple[Noise, ...] = ALL_NOISE,
) -> list[Interval]:
    """One interval per value; without bounds where `bounds` is None."""
    if bounds is None:
        return [Interval(float(value), noise=noise) for value in values]
    intervals = []
    for value, (low, high) in zip(values, bounds, strict=True):
        interval = Interval(float(value), float(low), float(high), noise)
        intervals.append(interval)
    return intervals


def significance(differs: bool, reference: str, plural: bool = False) -> str:
    """The words for a difference from `reference` whose noise, that of training too, is known."""
    if differs:
        verb = "differ" if plural else "differs"
    else:
        verb = "do not differ" if plural else "does not differ"
    return f"{verb} significantly from {reference}"
