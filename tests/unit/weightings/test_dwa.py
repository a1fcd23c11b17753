"""DWA against the formula, on losses that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cotbal.errors import CotbalError
from cotbal.weightings import dwa
from cotbal.weightings.dwa import DWA
from helpers.errors import raises

TASKS = ("a", "b")
NAN = float("nan")


def watched(rows: list[list[float]], **options: Any) -> DWA:
    weighting = dwa.build(("a", "b", "c")[: len(rows[0])], **{"window": 2, **options})
    for row in rows:
        weighting.observe(np.array(row), np.array([0 if np.isnan(loss) else 5 for loss in row]))
    return weighting


def by_formula(ratios: list[float], temperature: float = 2.0) -> np.ndarray:
    powers = np.exp(np.array(ratios) / temperature)
    return len(ratios) * powers / powers.sum()


def test_the_defaults_are_those_of_the_papers() -> None:
    weighting = dwa.build(TASKS)
    assert (weighting.window, weighting.temperature, weighting.starts, weighting.average) == (
        25,
        2.0,
        50,
        "token",
    )


def test_weights_follow_the_ratio_of_the_windows() -> None:
    rows = [[4.0, 1.0], [2.0, 1.0], [1.0, 1.0], [2.0, 0.5]]
    np.testing.assert_allclose(watched(rows).weights(4), by_formula([0.5, 0.75]))
    np.testing.assert_allclose(
        watched(rows, temperature=0.5).weights(4), by_formula([0.5, 0.75], 0.5)
    )


def test_the_windows_move_on_with_every_step() -> None:
    rows = [[9.0, 9.0], [4.0, 1.0], [2.0, 1.0], [1.0, 1.0], [2.0, 0.5]]
    np.testing.assert_allclose(watched(rows).weights(5), by_formula([0.5, 0.75]))


def test_weights_stay_equal_while_a_window_is_incomplete() -> None:
    np.testing.assert_array_equal(watched([[4.0, 1.0], [2.0, 1.0], [1.0, 1.0]]).weights(3), [1, 1])


def test_an_absent_task_is_absent_and_not_zero() -> None:
    rows = [[4.0, 1.0], [NAN, 1.0], [1.0, 1.0], [NAN, 0.5]]
    np.testing.assert_allclose(watched(rows).weights(4), by_formula([0.25, 0.75]))


def test_without_observations_in_a_window_the_last_ratio_stays() -> None:
    rows = [
        [4.0, 1.0],
        [2.0, 1.0],
        [1.0, 1.0],
        [2.0, 0.5],
        [NAN, 0.5],
        [NAN, 0.5],
        [NAN, 0.5],
        [NAN, 0.5],
    ]
    assert np.isnan(
        [row[0] for row in rows[-4:]]
    ).all()  # when it was last seen, its windows held (2, 1) and (2, -)
    np.testing.assert_allclose(watched(rows).weights(8), by_formula([4 / 3, 1.0]))


def test_before_its_first_ratio_a_task_has_the_mean_weight() -> None:
    rows = [[4.0, 1.0, NAN], [2.0, 1.0, NAN], [1.0, 1.0, NAN], [2.0, 0.5, 0.7]]
    weights = watched(rows).weights(4)
    assert weights[2] == 1
    np.testing.assert_allclose(weights[:2], by_formula([0.5, 0.75]))


@pytest.mark.parametrize(
    "options", [{"window": 0}, {"window": 2.5}, {"temperature": 0}, {"temperature": NAN}]
)
def test_invalid_options_are_rejected(options: dict[str, Any]) -> None:
    ((name, value),) = options.items()
    with raises(CotbalError, "invalid-option", "dwa", name, value):
        dwa.build(TASKS, **options)
