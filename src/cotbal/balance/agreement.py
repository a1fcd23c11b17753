"""Do two ways to find weights agree? For cheaper probes, held against those of the paper's form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cotbal.balance.uncertainty import interval


@dataclass(frozen=True)
class Agreement:
    """Weights of two runs side by side; every interval holds 95 %.

    Attributes:
        units: in the order of `differences`.
        correlation: Spearman's rank correlation of the weights, and its interval over resamples.
        differences: second minus first weight of every unit, with its interval.
        largest: the largest distance between two weights, with its interval.
    """

    units: tuple[str, ...]
    correlation: tuple[float, float, float]
    differences: tuple[tuple[float, float, float], ...]
    largest: tuple[float, float, float]

    def clear(self) -> tuple[str, ...]:
        """Units whose weights are distinguishable from each other."""
        return tuple(
            u
            for u, (_, low, high) in zip(self.units, self.differences, strict=True)
            if low > 0 or high < 0
        )


def agreement(
    first: Float[np.ndarray, "draw unit"],
    second: Float[np.ndarray, "draw unit"],
    units: Sequence[str],
) -> Agreement:
    """Compare draws of `cotbal.balance.weight_draws`; the first row of each is what was seen."""
    gaps = second - first
    return Agreement(
        tuple(units),
        _with_interval(rank_correlation(first, second)),
        tuple(_with_interval(gaps[:, i]) for i in range(len(units))),
        _with_interval(np.abs(gaps).max(axis=1)),
    )


def rank_correlation(
    first: Float[np.ndarray, "draw unit"], second: Float[np.ndarray, "draw unit"]
) -> Float[np.ndarray, " draw"]:
    """Spearman's rank correlation of every draw; equal values share their mean rank, and a constant
    row gives 0.
    """
    a, b = (_centred(_ranks(values)) for values in (first, second))
    spread = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.where(spread > 0, (a * b).sum(axis=1) / np.where(spread > 0, spread, 1.0), 0.0)


def _ranks(values: Float[np.ndarray, "draw unit"]) -> Float[np.ndarray, "draw unit"]:
    below = (values[:, :, None] > values[:, None, :]).sum(axis=2)
    equal = (values[:, :, None] == values[:, None, :]).sum(axis=2)
    return below + (equal - 1) / 2.0


def _centred(values: Float[np.ndarray, "draw unit"]) -> Float[np.ndarray, "draw unit"]:
    return values - values.mean(axis=1, keepdims=True)


def _with_interval(draws: Float[np.ndarray, " draw"]) -> tuple[float, float, float]:
    low, high = interval(draws[1:])
    return float(draws[0]), float(low), float(high)
