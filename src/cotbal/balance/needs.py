"""How much more evidence the weight of a unit needs: more validation samples, or more seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cotbal.scores.interval import HALF_WIDTH


@dataclass(frozen=True)
class Need:
    """The evidence for an interval without 1, if the weight is where it seems to be.

    Attributes:
        unit: the unit.
        distance: weight minus 1.
        sample_error: standard error of the weight from the validation samples.
        seed_error: standard error from the training seeds; None with a single seed, which has no
            spread.
        samples: needed validation samples as a multiple of those at hand, with the same seeds; None
            where the noise of the seeds alone is too large.
        seeds: needed number of seeds, with the same samples; None where the noise of the samples
            alone is too large, or with a single seed.
    """

    unit: str
    distance: float
    sample_error: float
    seed_error: float | None
    samples: float | None
    seeds: int | None

    def sentence(self) -> str:
        """The same in words."""
        ways = []
        if self.samples is not None:
            ways.append(f"about {self.samples:.1f} times the validation samples")
        if self.seeds is not None:
            ways.append(f"{self.seeds} training seeds")
        if not ways:
            return f"{self.unit}: neither more samples nor more seeds alone would exclude weight 1"
        return (
            f"{self.unit}: an interval that excludes 1 would take {' or '.join(ways)}, if the"
            " weight is where it seems to be"
        )


def needs(
    units: tuple[str, ...],
    weights: Float[np.ndarray, " unit"],
    sample_errors: Float[np.ndarray, " unit"],
    seed_errors: Float[np.ndarray, " unit"] | None,
    seeds: int,
) -> tuple[Need, ...]:
    """Evidence that the weight of each unit needs for a 95 % interval without 1.

    Variances fall in proportion to the number of samples and of seeds.

    Args:
        sample_errors, seed_errors: standard errors of the weights by either source of noise.
        seeds: number of training seeds at hand.
    """
    return tuple(
        _need(
            unit,
            float(weights[i] - 1),
            float(sample_errors[i]),
            None if seed_errors is None else float(seed_errors[i]),
            seeds,
        )
        for i, unit in enumerate(units)
    )


def _need(
    unit: str, distance: float, sample_error: float, seed_error: float | None, seeds: int
) -> Need:
    allowed = (distance / HALF_WIDTH) ** 2  # variance of an interval that just excludes 1
    samples = _factor(sample_error**2, allowed - (seed_error or 0.0) ** 2)
    more_seeds = None if seed_error is None else _factor(seed_error**2, allowed - sample_error**2)
    # At least two seeds, since a single one shows no noise.
    needed = None if more_seeds is None else max(2, math.ceil(more_seeds * seeds - 1e-9))
    return Need(unit, distance, sample_error, seed_error, samples, needed)


def _factor(variance: float, allowed: float) -> float | None:
    """How many times the evidence brings a variance down to what is allowed."""
    return variance / allowed if allowed > 0 else None
