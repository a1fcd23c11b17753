"""How much more evidence the weight of a unit needs: more validation samples, or more training
seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cotbal.scores.interval import HALF_WIDTH, Noise


@dataclass(frozen=True)
class Need:
    """The evidence for an interval without 1, if the weight is where it seems to be.

    Attributes:
        unit: the unit.
        distance: weight minus 1.
        sample_error: standard error of the weight toward 1 from the validation samples; 0 where
            they are not known.
        training_error: the same from the noise of training.
        samples: needed validation samples as a multiple of those at hand, with the same trainings;
            None where they are not known, or the noise of training alone is too large.
        seeds: needed number of training seeds for the whole set of probes, with the same samples;
            None where the sampling error alone is too large.
    """

    unit: str
    distance: float
    sample_error: float
    training_error: float
    samples: float | None
    seeds: int | None

    def sentence(self) -> str:
        """The same in words."""
        ways = []
        if self.samples is not None:
            ways.append(f"about {self.samples:.1f} times the validation samples")
        if self.seeds is not None:
            ways.append(f"{self.seeds} training {'seed' if self.seeds == 1 else 'seeds'}")
        if not ways:
            return f"{self.unit}: neither more samples nor more seeds alone would exclude weight 1"
        return (
            f"{self.unit}: an interval that excludes 1 would take {' or '.join(ways)}, if the"
            " weight is where it seems to be"
        )


def needs(
    units: tuple[str, ...],
    weights: Float[np.ndarray, " unit"],
    errors: Mapping[Noise, Float[np.ndarray, " unit"]],
    seeds: int,
) -> tuple[Need, ...]:
    """Evidence that the weight of each unit needs for a 95 % interval without 1; nothing where the
    noise of training is not known, since the number of samples would then be too small.

    Variances fall in proportion to the number of samples and of seeds.

    Args:
        errors: standard errors of the weights by either source of noise alone.
        seeds: number of whole sets of probes at hand.
    """
    if "training" not in errors:
        return ()
    of_samples = errors.get("samples")
    rows = []
    for i, unit in enumerate(units):
        sample_error = None if of_samples is None else float(of_samples[i])
        training_error = float(errors["training"][i])
        distance = float(weights[i] - 1)
        rows.append(_need(unit, distance, sample_error, training_error, seeds))
    return tuple(rows)


def _need(
    unit: str, distance: float, sample_error: float | None, training_error: float, seeds: int
) -> Need:
    allowed = (distance / HALF_WIDTH) ** 2  # variance of an interval that just excludes 1
    of_samples = (sample_error or 0.0) ** 2
    samples = None
    if sample_error is not None:
        samples = _factor(of_samples, allowed - training_error**2)
    more_seeds = _factor(training_error**2, allowed - of_samples)
    needed = None if more_seeds is None else max(1, math.ceil(more_seeds * seeds - 1e-9))
    return Need(unit, distance, sample_error or 0.0, training_error, samples, needed)


def _factor(variance: float, allowed: float) -> float | None:
    """How many times the evidence brings a variance down to what is allowed."""
    return variance / allowed if allowed > 0 else None
