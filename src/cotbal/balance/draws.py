"""Measures of every resample, one receiver at a time: all their contributions would take memory in
proportion to the square of the units, 4 GB at 500.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from cotbal.balance.contribution import nan_mean
from cotbal.balance.measures import Measures, measure, measure_unit
from cotbal.balance.missing import with_missing_receivers
from cotbal.balance.probes import Probes
from cotbal.balance.settings import Settings
from cotbal.balance.shrinkage import Shrinkage
from cotbal.balance.uncertainty import Draws
from cotbal.balance.weights import Parts, weight_parts
from cotbal.errors import ScoresError
from cotbal.scores.interval import percentile_bounds

TAIL = 1.0  # percent of the draws on each side


@dataclass(frozen=True)
class DrawnMeasures:
    """The measures of every resample; of the contributions, only the bounds of their intervals."""

    contribution_bounds: Float[np.ndarray, "giver receiver 2"]
    outward: Float[np.ndarray, "resample giver"]
    inward: Float[np.ndarray, "resample receiver"]
    difficulty: Float[np.ndarray, "resample unit"]

    def parts(self, temperature: float) -> Parts:
        """The parts of the weights, Eq. 5, 7, 8, 10 and 11."""
        return weight_parts(self.outward, self.inward, self.difficulty, temperature)

    def bounds(self) -> dict[str, np.ndarray]:
        """Bounds of the intervals of every measure."""
        return {
            "contribution": self.contribution_bounds,
            "outward": percentile_bounds(self.outward),
            "inward": percentile_bounds(self.inward),
            "difficulty": percentile_bounds(self.difficulty),
        }


def measure_draws(
    probes: Probes, draws: Draws | None, settings: Settings
) -> tuple[Measures, DrawnMeasures | None]:
    """The measures of the mean scores, and those of every resample."""
    measures = measure(probes.scores.values, probes)
    if draws is None:
        if settings.shrink:
            raise ScoresError(
                "shrinking contributions needs their noise: scores with samples, or several"
                " trainings",
                "no-samples",
            )
        return measures, None
    shrinkage = None
    if settings.shrink:
        units = range(len(probes.units))
        shrinkage = Shrinkage(
            lambda: ((unit, _measured(probes, draws, unit)[0]) for unit in units), len(units)
        )
        measures = measures.shrunk(shrinkage.variances)
    drawn = _collect(probes, draws, shrinkage)
    outward = with_missing_receivers(
        drawn.outward, measures.contribution, probes.units, settings.seed
    )
    return measures, replace(drawn, outward=outward)


def _measured(probes: Probes, draws: Draws, unit: int) -> tuple[np.ndarray, np.ndarray]:
    """What a unit receives in every resample `[resample, giver]`, and its difficulty
    `[resample]`.
    """
    rows = range(len(probes.scores.runs))
    columns = []
    for task in probes.tasks_of(unit):
        column = draws(task, rows)
        columns.append(column)
    scores = np.stack(columns, axis=-1)
    given, hard = measure_unit(scores, probes, unit)
    return with_bounded_tails(given), hard


def with_bounded_tails(
    contribution: Float[np.ndarray, "resample giver"],
) -> Float[np.ndarray, "resample giver"]:
    """Draws whose outermost contributions are moved to the `TAIL` percentiles of their cell.

    A ratio has no finite variance. In a mean over receivers the few draws where one denominator is
    near zero would decide the width of the interval.
    """
    low, high = np.percentile(contribution, (TAIL, 100 - TAIL), axis=0)
    return np.clip(contribution, low, high)


def _collect(probes: Probes, draws: Draws, shrinkage: Shrinkage | None) -> DrawnMeasures:
    units = len(probes.units)
    bounds = np.empty((units, units, 2))
    inward = []
    difficulty = []
    total: np.ndarray = np.zeros(1)
    receivers: np.ndarray = np.zeros(1)
    for unit in range(units):
        given, hard = _measured(probes, draws, unit)
        if shrinkage is not None:
            given = shrinkage.pulled(unit, given)
        bounds[:, unit] = percentile_bounds(given)
        given[:, unit] = np.nan  # what a unit gives itself counts in no mean
        inward.append(nan_mean(given))
        difficulty.append(hard)
        present = ~np.isnan(given)
        total = total + np.where(present, given, 0.0)
        receivers = receivers + present
    divisor = np.maximum(receivers, 1)
    mean = total / divisor
    return DrawnMeasures(
        contribution_bounds=bounds,
        outward=np.where(receivers > 0, mean, np.nan),
        inward=np.stack(inward, axis=-1),
        difficulty=np.stack(difficulty, axis=-1),
    )
