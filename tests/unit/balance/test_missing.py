"""Receivers that are not identified widen the outward means."""

from __future__ import annotations

import numpy as np
import pytest

from cotbal.balance import Settings, balance
from cotbal.balance.missing import with_missing_receivers
from cotbal.balance.result import NOT_MEASURABLE
from helpers.balance_cases import table

NAN = float("nan")
NAMES = ("a", "b", "c", "d", "e")


FLAT = np.zeros((6000, 5))


def contributions(identified: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0.3, 0.2, (5, 5))
    values[:, identified:] = NAN
    return values


def test_nothing_changes_where_all_receivers_are_identified() -> None:
    assert with_missing_receivers(FLAT, contributions(5), NAMES, 0) is FLAT


def test_the_spread_is_that_of_a_sample_from_a_finite_population() -> None:
    """A giver with m of M identified receivers moves by s sqrt((1 - m / M) / m)."""
    values = contributions(3)
    moved = with_missing_receivers(FLAT, values, NAMES, 0)
    others = np.where(np.eye(5, dtype=bool), NAN, values)
    rows = [row[~np.isnan(row)] for row in others]
    freedom = sum(len(row) - 1 for row in rows)
    variance = sum(((row - row.mean()) ** 2).sum() for row in rows) / freedom
    known = np.array([len(row) for row in rows])  # two for the identified, three for the others
    expected = np.sqrt(variance * (1 - known / 4) / known * freedom / (freedom - 2))
    np.testing.assert_allclose(moved.std(axis=0), expected, rtol=0.1)


def test_fewer_receivers_make_wider_intervals() -> None:
    widths = []
    for identified in (4, 3, 2, 1):
        values = contributions(identified)
        moved = with_missing_receivers(FLAT, values, NAMES, 0)
        widths.append(np.ptp(np.percentile(moved[:, 4], (2.5, 97.5))))
    assert widths == sorted(widths)


def test_the_interval_of_an_outward_mean_holds_the_mean_over_all_receivers() -> None:
    held = []
    for seed in range(300):
        truth = contributions(5, seed)
        seen = truth.copy()
        seen[:, 2:] = NAN
        others = np.where(np.eye(5, dtype=bool), NAN, seen)
        start = np.nanmean(others, axis=1)
        moved = with_missing_receivers(np.tile(start, (400, 1)), seen, NAMES, seed)
        low, high = np.percentile(moved, (2.5, 97.5), axis=0)
        true = np.nanmean(np.where(np.eye(5, dtype=bool), NAN, truth), axis=1)
        held += ((low <= true) & (true <= high)).tolist()
    assert 0.92 <= np.mean(held) <= 0.99


@pytest.mark.parametrize(("least", "measurable"), [(0.5, False), (0.2, True), (0.0, True)])
def test_below_a_share_of_identified_receivers_the_weights_are_equal(
    least: float, measurable: bool
) -> None:
    rows = [
        [0.3, 0.3, 0.3, 0.3],
        [0.8, 0.4, 0.5, 0.2],
        [0.5, 0.2, 0.3, 0.3],  # b, c and d gain nothing from their own data
        [0.4, 0.3, 0.1, 0.3],
        [0.6, 0.3, 0.3, 0.3],
    ]
    result = balance(table(rows), settings=Settings(equal_below=least))
    assert result.identified["receivers"] == 0.25
    assert result.measurable is measurable
    equal = set(result.weights.values()) == {1.0}
    assert equal is not measurable
    if not measurable:
        assert result.verdict("a") == NOT_MEASURABLE
        assert result.needs == ()
        assert not result.weight("a").has_bounds
