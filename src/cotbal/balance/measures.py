"""Contribution and difficulty of the units: Eq. 3, 4, 6 and 9 put together, for every form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from cotbal.balance.contribution import contribution, inward, nan_mean, outward
from cotbal.balance.difficulty import difficulty
from cotbal.balance.probes import Probes
from cotbal.balance.shrinkage import shrink
from cotbal.balance.weights import Parts, weight_parts


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

    def shrunk(self, variances: Float[np.ndarray, "giver receiver"]) -> Measures:
        """Contributions pulled toward their mean, see `shrinkage`, and the means that follow."""
        pulled = shrink(self.contribution, variances)
        return replace(self, contribution=pulled, outward=outward(pulled), inward=inward(pulled))


def measure(scores: Float[np.ndarray, "*resample run task"], probes: Probes) -> Measures:
    """Contribution (Eq. 3) and difficulty (Eq. 9) per task, averaged inside each unit, and the
    means over other units (Eq. 4, 6).

    Args:
        scores: score matrices with the rows of `probes`.
    """
    received = []
    difficulties = []
    for unit in range(len(probes.units)):
        of_unit = scores[..., probes.tasks_of(unit)]
        given, hard = measure_unit(of_unit, probes, unit)
        received.append(given)
        difficulties.append(hard)
    contributions = np.stack(received, axis=-1)
    return Measures(
        contribution=contributions,
        outward=outward(contributions),
        inward=inward(contributions),
        difficulty=np.stack(difficulties, axis=-1),
    )


def measure_unit(
    scores: Float[np.ndarray, "*resample run task"], probes: Probes, unit: int
) -> tuple[Float[np.ndarray, "*resample giver"], Float[np.ndarray, "*resample"]]:
    """What a unit receives from every unit (Eq. 3), and its difficulty (Eq. 9): means over its
    identified tasks. They are means of ratios, so metrics of different scales never mix.

    Args:
        scores: of the tasks of this unit.
    """
    tasks = probes.tasks_of(unit)
    given = contribution(
        scores[..., probes.givers, :],
        scores[..., probes.baseline, :],
        probes.unit_of_task[tasks],
        probes.has_gain[tasks],
    )
    columns = np.arange(len(tasks))
    full = scores[..., probes.full[tasks], columns]
    mini = scores[..., probes.mini[tasks], columns]
    hard = difficulty(full, mini, probes.has_score[tasks])
    return nan_mean(given), nan_mean(hard)
