"""A number with its interval, and the words of a verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cotbal.scores.interval import (
    Interval,
    interval_of_draws,
    percentile_bounds,
    significance,
    with_bounds,
)

NAN = float("nan")


@pytest.mark.filterwarnings("error")
def test_bounds_are_percentiles_of_the_resamples() -> None:
    values = np.stack([np.arange(1001.0), np.full(1001, np.nan), np.zeros(1001)], axis=1)
    np.testing.assert_allclose(percentile_bounds(values), [[25, 975], [np.nan, np.nan], [0, 0]])


@pytest.mark.filterwarnings("error")
def test_a_draw_without_a_value_lies_beyond_both_ends() -> None:
    """A ratio whose denominator is not positive in a draw could be anything there."""
    values = np.tile(np.arange(1001.0)[:, None], 3)
    values[500, 1] = np.nan
    values[:30, 2] = np.nan
    bounds = percentile_bounds(values)
    np.testing.assert_allclose(bounds, [[25, 975], [25, 976], [np.nan, np.nan]])


def test_the_first_draw_is_the_estimate() -> None:
    interval = interval_of_draws(np.array([7.0, *np.arange(1001.0)]))
    assert (interval.value, interval.low, interval.high) == pytest.approx((7, 25, 975))
    assert interval.half_width == pytest.approx(475)
    assert not interval_of_draws(np.array([7.0])).has_bounds


@pytest.mark.parametrize(
    ("bounds", "excludes"),
    [((0.2, 0.9), True), ((1.1, 1.5), True), ((0.9, 1.1), False), ((1.0, 2.0), False)],
)
def test_an_interval_excludes_what_lies_on_one_side(
    bounds: tuple[float, float], excludes: bool
) -> None:
    assert Interval(1.0, *bounds).excludes(1.0) is excludes


def test_without_bounds_nothing_is_excluded() -> None:
    bare = Interval(3.0)
    assert not bare.has_bounds
    assert not bare.excludes(0)
    assert bare.to_json() == {"value": 3.0, "interval": None, "holds": []}
    assert str(bare) == "3.000"
    assert str(Interval(3.0, 2.0, 4.0)) == "3.000 [2.000, 4.000]"


def test_arrays_of_values_and_bounds() -> None:
    values = np.array([1.0, NAN])
    first, second = with_bounds(values, np.array([[0.5, 1.5], [NAN, NAN]]))
    assert first == Interval(1.0, 0.5, 1.5)
    assert math.isnan(second.value)
    assert not second.has_bounds
    assert not any(interval.has_bounds for interval in with_bounds(values, None))


def test_verdicts() -> None:
    """All outputs take these words from here, so this is the only test of them."""
    assert significance(True, "1") == "differs significantly from 1"
    assert significance(False, "EW") == "does not differ significantly from EW"
    assert significance(True, "1", plural=True) == "differ significantly from 1"
    assert significance(False, "1", plural=True) == "do not differ significantly from 1"
