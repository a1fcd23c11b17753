"""The slope of a score over the logarithm of its weight, where it is known."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from helpers.scripts import BENCHMARKS, loaded


@pytest.fixture(scope="module")
def sensitivity() -> ModuleType:
    return loaded(BENCHMARKS / "weight_sensitivity.py")


def test_a_level_of_its_own_for_every_seed(sensitivity: ModuleType) -> None:
    seeds = np.repeat([0, 1, 2], 4)
    doubled = np.tile([-1.0, 0.0, 0.5, 1.0], 3)
    slope, half, spread = sensitivity.fit(doubled, 3.0 * doubled + 10.0 * seeds, seeds)
    assert (slope, half, spread) == pytest.approx((3.0, 0.0, 0.0), abs=1e-12)


def test_the_interval_is_that_of_least_squares(sensitivity: ModuleType) -> None:
    """One seed, weights -1, 0, 0, 1 and a score that is off by +-1 in the middle: spread 1, slope 0
    +- t / sqrt(2).
    """
    slope, half, spread = sensitivity.fit(
        np.array([-1.0, 0.0, 0.0, 1.0]), np.array([0.0, 1.0, -1.0, 0.0]), np.zeros(4)
    )
    assert (slope, spread) == pytest.approx((0.0, 1.0))
    assert half == pytest.approx(4.303 / np.sqrt(2))
