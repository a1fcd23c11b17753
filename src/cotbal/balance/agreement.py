"""Agreement of two sets of weights, such as those of cheaper probes and those of the paper's
form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.balance.algorithm import WeightDraws
from cotbal.scores.interval import Interval, interval_of_draws


@dataclass(frozen=True)
class Agreement:
    """Weights of two runs side by side.

    Attributes:
        units: in the order of `differences`.
        correlation: Spearman's rank correlation of the weights.
        differences: second minus first weight of every unit.
        largest: the largest distance between two weights of one unit.
    """

    units: tuple[str, ...]
    correlation: Interval
    differences: tuple[Interval, ...]
    largest: Interval

    def to_json(self) -> dict[str, Any]:
        """Every number with its interval, differences by unit."""
        differences = zip(self.units, self.differences, strict=True)
        return {
            "units": list(self.units),
            "correlation": self.correlation.to_json(),
            "differences": {unit: difference.to_json() for unit, difference in differences},
            "largest": self.largest.to_json(),
        }


def agreement(first: WeightDraws, second: WeightDraws, units: Sequence[str]) -> Agreement:
    """Compare draws of `cotbal.balance.weight_draws`; the intervals hold what both sets know."""
    noise = tuple(source for source in first.noise if source in second.noise)
    correlations = rank_correlation(first.values, second.values)
    differences = second.values - first.values
    by_unit = []
    for i in range(len(units)):
        difference = interval_of_draws(differences[:, i], noise)
        by_unit.append(difference)
    largest = np.abs(differences).max(axis=1)
    return Agreement(
        tuple(units),
        correlation=interval_of_draws(correlations, noise),
        differences=tuple(by_unit),
        largest=interval_of_draws(largest, noise),
    )


def rank_correlation(
    first: Float[np.ndarray, "draw unit"], second: Float[np.ndarray, "draw unit"]
) -> Float[np.ndarray, " draw"]:
    """Spearman's rank correlation of every draw; equal values share their mean rank, and a constant
    row gives 0.
    """
    a = _centred(_ranks(first))
    b = _centred(_ranks(second))
    products = (a * b).sum(axis=1)
    first_squares = (a**2).sum(axis=1)
    second_squares = (b**2).sum(axis=1)
    spread = np.sqrt(first_squares * second_squares)
    varies = spread > 0
    divisor = np.where(varies, spread, 1.0)
    return np.where(varies, products / divisor, 0.0)


def _ranks(values: Float[np.ndarray, "draw unit"]) -> Float[np.ndarray, "draw unit"]:
    ranks = np.empty(values.shape)
    for unit, of_unit in enumerate(values.T):
        below = (of_unit[:, None] > values).sum(axis=1)
        equal = (of_unit[:, None] == values).sum(axis=1)
        ranks[:, unit] = below + (equal - 1) / 2.0
    return ranks


def _centred(values: Float[np.ndarray, "draw unit"]) -> Float[np.ndarray, "draw unit"]:
    return values - values.mean(axis=1, keepdims=True)
