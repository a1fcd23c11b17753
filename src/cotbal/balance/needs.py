"""How much more evidence would tell a weight from 1: more validation samples, or more seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

# The half-width of a 95 % interval in standard errors.
HALF_WIDTH = 1.96


@dataclass(frozen=True)
class Need:
    """What the weight of one unit would need, if it is where it seems to be.

    Attributes:
        unit: the unit.
        distance: weight minus 1.
        sample_error: standard error of the weight from the validation samples.
        seed_error: standard error from the training seeds; None with a single seed, which says
            nothing about it.
        samples: how many times the validation samples of today would do, with today's seeds; None
            where no number would, because seed noise alone is too large.
        seeds: how many seeds would do, with today's samples; None where no number would, or with a
            single seed.
    """

    unit: str
    distance: float
    sample_error: float
    seed_error: float | None
    samples: float | None
    seeds: int | None

    def sentence(self) -> str:
        """What would tell this weight from 1, in words."""
        ways = []
        if self.samples is not None:
            ways.append(f"about {self.samples:.1f} times the validation samples")
        if self.seeds is not None:
            ways.append(f"{self.seeds} training seeds")
        if not ways:
            return (
                f"{self.unit}: neither more samples nor more seeds alone would tell its weight"
                " from 1"
            )
        return (
            f"{self.unit}: to tell its weight from 1 would take {', or '.join(ways)}, if it is"
            " where it seems to be"
        )


def needs(
    units: tuple[str, ...],
    weights: Float[np.ndarray, " unit"],
    sample_errors: Float[np.ndarray, " unit"],
    seed_errors: Float[np.ndarray, " unit"] | None,
    seeds: int,
) -> tuple[Need, ...]:
    """Evidence needed for every unit so that a 95 % interval of its weight would leave out 1.

    Variances fall in proportion to the number of samples and of seeds. A weight of exactly 1 needs
    what nobody has.
    """
    found = []
    for i, unit in enumerate(units):
        distance, of_samples = float(weights[i] - 1), float(sample_errors[i]) ** 2
        of_seeds = None if seed_errors is None else float(seed_errors[i]) ** 2
        allowed = (distance / HALF_WIDTH) ** 2
        found.append(
            Need(
                unit,
                distance,
                math.sqrt(of_samples),
                None if of_seeds is None else math.sqrt(of_seeds),
                _factor(of_samples, allowed - (of_seeds or 0.0)),
                (
                    None
                    if of_seeds is None
                    else _seeds(_factor(of_seeds, allowed - of_samples), seeds)
                ),
            )
        )
    return tuple(found)


def _factor(variance: float, allowed: float) -> float | None:
    """How many times as much brings a variance down to what is allowed."""
    return variance / allowed if allowed > 0 else None


def _seeds(factor: float | None, seeds: int) -> int | None:
    # At least two, since a single seed shows no noise.
    return None if factor is None else max(2, math.ceil(factor * seeds - 1e-9))
