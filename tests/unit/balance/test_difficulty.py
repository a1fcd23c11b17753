from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from cotbal.balance.difficulty import difficulty
from helpers.balance_cases import healthy, plain_difficulty


@given(healthy())
def test_equals_loops(rows: list[list[float]]) -> None:
    values = np.array(rows)
    known = np.ones(len(rows[0]), dtype=bool)
    np.testing.assert_allclose(
        difficulty(np.diag(values[1:]), values[0], known), plain_difficulty(rows), rtol=1e-9
    )


@given(healthy())
def test_is_one_minus_the_easiness(rows: list[list[float]]) -> None:
    values = np.array(rows)
    own_scores, mini = np.diag(values[1:]), values[0]
    np.testing.assert_allclose(
        difficulty(own_scores, mini, np.ones(len(mini), dtype=bool)),
        1 - mini / own_scores,
        atol=1e-12,
    )


def test_range() -> None:
    known = np.ones(3, dtype=bool)
    ratios = difficulty(np.array([0.8, 0.8, 0.8]), np.array([0.0, 0.4, 0.8]), known)
    np.testing.assert_allclose(ratios, [1.0, 0.5, 0.0])


@pytest.mark.filterwarnings("error")
def test_an_own_score_of_zero() -> None:
    own_scores, mini = np.array([0.0, 0.5]), np.array([0.0, 0.1])
    assert np.isnan(difficulty(own_scores, mini, np.array([False, True]))[0])
    # A resample may meet zero in a task whose score is known to be more: it stays finite.
    assert np.isfinite(
        difficulty(np.zeros((2, 2)), np.array([[0.0, 0.1], [0.2, 0.0]]), np.array([True, True]))
    ).all()
