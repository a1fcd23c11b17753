"""Contribution and difficulty of the units: Eq. 3, 4, 6 and 9 put together, for every form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from cotbal.balance.contribution import contribution, inward, mean_per_unit, outward
from cotbal.balance.difficulty import difficulty
from cotbal.balance.probes import Probes
from cotbal.balance.shrinkage import shrink
from cotbal.balance.weights import Parts, weight_parts

TAIL = 1.0  # percent of the draws on each side


@dataclass(frozen=True)
class Measures:
    """What the weights are computed from; a leading axis, if any, runs over resamples."""

    contribution: Float[np.ndarray, "*resample giver receiver"]
    outward: Float[np.ndarray, "*resample giver"]
    inward: Float[np.ndarray, "*resample receiver"]
    difficulty: Float[np.ndarray, "*resample unit"]

    def parts(self, temperature: float) -> Parts:
        """The parts of the weights, Eq. 5, 7, 8, 10 and 11."""
        return weight_parts(self.outward, self.inward, self.difficulty, temperature)

    def with_bounded_tails(self) -> Measures:
        """Draws whose outermost contributions are moved to the `TAIL` percentiles of their cell.

        A ratio has no finite variance. In a mean over receivers the few draws where one
        denominator is near zero would decide the width of the interval.
        """
        low, high = np.percentile(self.contribution, (TAIL, 100 - TAIL), axis=0)
        bounded = np.clip(self.contribution, low, high)
        return self._with_contribution(bounded)

    def shrunk(self, variances: Float[np.ndarray, "giver receiver"]) -> Measures:
        """Contributions pulled toward their mean, see `shrinkage`."""
        pulled = shrink(self.contribution, variances)
        return self._with_contribution(pulled)

    def _with_contribution(
        self, contribution: Float[np.ndarray, "*resample giver receiver"]
    ) -> Measures:
        """The same with other contributions, and the means that follow from them."""
        return replace(
            self,
            contribution=contribution,
            outward=outward(contribution),
            inward=inward(contribution),
        )


def measure(scores: Float[np.ndarray, "*resample run task"], probes: Probes) -> Measures:
    """Contribution (Eq. 3) and difficulty (Eq. 9) per task, averaged inside each unit, and the
    means over other units (Eq. 4, 6).

    Args:
        scores: score matrices with the rows of `probes`.
    """
    units = len(probes.units)
    unit_of_task = probes.unit_of_task
    given = contribution(
        scores[..., probes.givers, :],
        scores[..., probes.baseline, :],
        unit_of_task,
        probes.has_gain,
    )
    tasks = np.arange(len(unit_of_task))
    full = scores[..., probes.full, tasks]
    mini = scores[..., probes.mini, tasks]
    hard = difficulty(full, mini, probes.has_score)
    contributions = mean_per_unit(given, unit_of_task, units)
    return Measures(
        contribution=contributions,
        outward=outward(contributions),
        inward=inward(contributions),
        difficulty=mean_per_unit(hard, unit_of_task, units),
    )
