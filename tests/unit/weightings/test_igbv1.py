"""IGBv1 against the formula, on losses that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cotbal.errors import CotbalError
from cotbal.weightings import igbv1
from cotbal.weightings.igbv1 import IGBv1
from helpers.errors import raises

NAN = float("nan")
BASE = [
    [50.0, 50.0],
    [60.0, 60.0],
    [4.0, 1.0],
    [2.0, 3.0],
]  # window 2: the base is the mean of the last two, (3, 2)


def watched(rows: list[list[float]]) -> IGBv1:
    weighting = igbv1.build(("a", "b"), window=2)
    for row in rows:
        weighting.observe(np.array(row), np.array([0 if np.isnan(loss) else 5 for loss in row]))
    return weighting


def by_formula(a: float, b: float) -> np.ndarray:
    powers = np.exp([a, b])
    return 2 * powers / powers.sum()


def test_the_window_is_of_a_hundred_steps() -> None:
    weighting = igbv1.build(("a", "b"))
    assert (weighting.window, weighting.starts, weighting.average) == (100, 200, "token")


def test_weights_follow_the_share_of_the_base_that_is_left() -> None:
    np.testing.assert_allclose(watched(BASE).weights(4), by_formula(2 / 3, 3 / 2))
    np.testing.assert_allclose(
        watched([*BASE, [1.5, 1.0]]).weights(5), by_formula(1.5 / 3, 1.0 / 2)
    )
    np.testing.assert_allclose(
        watched([*BASE, [9.0, 9.0], [1.5, 1.0]]).weights(6), by_formula(1.5 / 3, 1.0 / 2)
    )


def test_weights_stay_equal_until_the_base_is_known() -> None:
    np.testing.assert_array_equal(watched(BASE[:3]).weights(3), [1, 1])


def test_an_absent_task_keeps_its_last_loss_and_leaves_the_base_alone() -> None:
    rows = [*BASE[:3], [2.0, NAN], [1.5, NAN], [1.5, NAN]]
    np.testing.assert_allclose(watched(rows).weights(6), by_formula(1.5 / 3, 1.0 / 1))


def test_a_task_without_a_base_has_the_mean_weight() -> None:
    rows = [[50.0, 50.0], [60.0, 60.0], [4.0, NAN], [2.0, NAN], [1.5, 9.0]]
    np.testing.assert_array_equal(watched(rows).weights(5), [1, 1])


@pytest.mark.parametrize("window", [0, -3, True, "2"])
def test_a_window_is_a_number_of_steps(window: Any) -> None:
    with raises(CotbalError, "invalid-option", "igbv1", repr(window)):
        igbv1.build(("a", "b"), window=window)
