"""The standard form, Section 3 of the paper: from a score matrix to weights, Eq. 3-11."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from cotbal.balance.contribution import by_receiver, contribution, inward, outward
from cotbal.balance.difficulty import difficulty


@dataclass(frozen=True)
class Identified:
    """Which tasks have a contribution column and a difficulty that mean something."""

    contribution: Bool[np.ndarray, " task"]
    difficulty: Bool[np.ndarray, " task"]


@dataclass(frozen=True)
class Estimate:
    """What the probes say about the units; a leading axis, if any, runs over resamples."""

    contribution: Float[np.ndarray, "*resample giver receiver"]
    outward: Float[np.ndarray, "*resample giver"]
    inward: Float[np.ndarray, "*resample receiver"]
    difficulty: Float[np.ndarray, "*resample unit"]


def estimate(
    full: Float[np.ndarray, "*resample unit task"],
    mini: Float[np.ndarray, "*resample task"],
    unit_of: Int[np.ndarray, " task"],
    identified: Identified,
) -> Estimate:
    """Contribution and difficulty a task (Eq. 3, 9), averaged inside each unit, and the means over others (Eq. 4, 6).

    Args:
        full: scores of the probes `full:<unit>`, one row a unit.
        mini: scores of the probe `mini`.
        unit_of: index of the unit of every task; without groups it is 0, 1, 2, ...
        identified: see `guards`.
    """
    units = full.shape[-2]
    per_task = contribution(full, mini, unit_of, identified.contribution)
    own = full[..., unit_of, np.arange(len(unit_of))]
    contributions = by_receiver(per_task, unit_of, units)
    return Estimate(
        contribution=contributions,
        outward=outward(contributions),
        inward=inward(contributions),
        difficulty=by_receiver(difficulty(own, mini, identified.difficulty), unit_of, units),
    )
