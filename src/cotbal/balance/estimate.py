"""From scores to contribution and difficulty of the units, whatever the form: Eq. 3, 4, 6, 9 put
together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from cotbal.balance.contribution import by_receiver, contribution, inward, outward
from cotbal.balance.difficulty import difficulty


@dataclass(frozen=True)
class Places:
    """Where the scores of the equations stand in a score matrix, see `forms`.

    Attributes:
        baseline: row of the run that contributions are counted from.
        givers: rows of the runs that saw the large portion of a unit, in the order of the units.
        own, small: for every task, the rows of its difficulty.
        unit_of: for every task, the index of its unit; without groups it is 0, 1, 2, ...
    """

    baseline: int
    givers: Int[np.ndarray, " unit"]
    own: Int[np.ndarray, " task"]
    small: Int[np.ndarray, " task"]
    unit_of: Int[np.ndarray, " task"]


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
    scores: Float[np.ndarray, "*resample run task"], places: Places, identified: Identified
) -> Estimate:
    """Contribution and difficulty a task (Eq. 3, 9), averaged inside each unit, and the means over
    others (Eq. 4, 6).

    Args:
        scores: score matrices, the same rows in each.
        identified: see `guards`.
    """
    units, tasks = len(places.givers), np.arange(len(places.unit_of))
    per_task = contribution(
        scores[..., places.givers, :],
        scores[..., places.baseline, :],
        places.unit_of,
        identified.contribution,
    )
    contributions = by_receiver(per_task, places.unit_of, units)
    own, small = scores[..., places.own, tasks], scores[..., places.small, tasks]
    return Estimate(
        contribution=contributions,
        outward=outward(contributions),
        inward=inward(contributions),
        difficulty=by_receiver(
            difficulty(own, small, identified.difficulty), places.unit_of, units
        ),
    )
