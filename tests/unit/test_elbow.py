from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.jobs.elbow import FEWEST, elbow, mini_rate

FRACTIONS = np.linspace(0.02, 1, 50)


def hinge(at: float, before: float, after: float) -> np.ndarray:
    return 2 + before * np.minimum(FRACTIONS - at, 0) + after * np.maximum(FRACTIONS - at, 0)


@given(st.floats(0.1, 0.8), st.floats(-9, -1), st.floats(0, 0.9))
def test_a_hinge_is_found(at: float, before: float, share: float) -> None:
    point = elbow(FRACTIONS, hinge(at, before, share * before))
    assert point == pytest.approx(at, abs=0.021)


def test_noise_moves_it_little() -> None:
    noise = 0.05 * np.random.default_rng(0).standard_normal(50)
    assert elbow(FRACTIONS, hinge(0.2, -8, -0.3) + noise) == pytest.approx(0.2, abs=0.05)


def test_an_exponential_bends_early() -> None:
    fast, slow = (elbow(FRACTIONS, np.exp(-FRACTIONS / scale)) for scale in (0.05, 0.4))
    assert fast is not None
    assert slow is not None
    assert fast < 0.25 < slow


@pytest.mark.parametrize(
    "losses", [2 + FRACTIONS, np.ones(50), hinge(0.3, -1, -4), hinge(0.3, 2, -1)]
)
def test_what_rises_stays_or_falls_faster_and_faster_has_no_elbow(losses: np.ndarray) -> None:
    assert elbow(FRACTIONS, losses) is None


def test_too_few_points_have_no_elbow() -> None:
    few = np.linspace(0, 1, FEWEST - 1)
    assert elbow(few, np.exp(-9 * few)) is None


def test_the_mini_holds_the_latest_elbow() -> None:
    assert mini_rate([0.05, 0.11]) == Fraction(1, 9)
    assert mini_rate([0.6]) == 1
    assert mini_rate([1 / 32]) == Fraction(1, 32)
