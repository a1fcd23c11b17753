"""A number with its interval, and the words of a verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cotbal.scores.interval import (
    SAMPLES,
    SAMPLING_ONLY,
    Interval,
    hold_training,
    interval_name,
    interval_of_draws,
    noise_of_seeds,
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


def test_what_rounds_to_zero_has_no_sign() -> None:
    assert str(Interval(-0.0001, -0.5, -0.0002)) == "0.000 [-0.500, 0.000]"
    assert str(Interval(-0.0001)) == "0.000"


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


SAMPLED = Interval(3.0, 2.0, 4.0, noise=SAMPLES)


def test_without_the_noise_of_training_nothing_differs() -> None:
    assert SAMPLED.excludes(1)
    assert not SAMPLED.differs(1)
    assert not SAMPLED.holds_training
    assert SAMPLED.verdict(1) == SAMPLING_ONLY
    assert SAMPLED.times(2) == Interval(6.0, 4.0, 8.0, noise=SAMPLES)
    assert SAMPLED.to_json() == {"value": 3.0, "interval": [2.0, 4.0], "holds": ["samples"]}
    assert Interval(3.0, 2.0, 4.0).differs(1)
    assert not Interval(3.0, 0.5, 4.0).differs(1)
    assert not Interval(3.0).differs(1)


def test_several_intervals_hold_what_all_of_them_hold() -> None:
    known, bare = Interval(3.0, 2.0, 4.0), Interval(1.0)
    assert hold_training([known, bare])
    assert not hold_training([known, SAMPLED])
    assert not hold_training([bare])
    assert interval_name([known]) == "95 % interval"
    assert interval_name([SAMPLED, known]) == "sampling error only"
    assert interval_name([bare]) == "interval"


def test_one_seed_shows_no_noise_of_training() -> None:
    assert noise_of_seeds(1) == ("samples",)
    assert noise_of_seeds(2) == ("samples", "training")


def test_verdicts() -> None:
    """All outputs take these words from here."""
    clear, unclear = Interval(3.0, 2.0, 4.0), Interval(3.0, 0.5, 4.0)
    assert clear.verdict(1) == significance(True, "1")
    assert clear.verdict(1, "EW") == significance(True, "EW")
    assert unclear.verdict(1) == significance(False, "1")
    assert SAMPLED.verdict(1) == SAMPLING_ONLY
    words = set()
    for plural in (False, True):
        different = significance(True, "1", plural)
        alike = significance(False, "1", plural)
        assert different.endswith(" significantly from 1")
        assert alike.endswith(" significantly from 1")
        assert "not" not in different
        assert "not" in alike
        words |= {different, alike}
    assert len(words) == 4
    assert Interval(3.0).verdict(1) not in words
    assert Interval(3.0).verdict(1) != SAMPLING_ONLY
