from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.balance.improvement import (
    Overall,
    error,
    improvement,
    overall,
    task_improvement,
    task_improvements,
)
from cotbal.errors import ScoresError
from cotbal.scores.results import Column, Results
from helpers.errors import raises

PERCENTS = st.lists(st.floats(-100, 100), min_size=1, max_size=8)
UP = np.array([True])


def test_a_relative_change_in_percent() -> None:
    assert float(task_improvement(np.array([0.6]), np.array([0.5]), UP)) == pytest.approx(20)
    assert float(task_improvement(np.array([0.4]), np.array([0.5]), UP)) == pytest.approx(-20)


def test_lower_may_be_better() -> None:
    better = np.array([True, False])
    improvements = task_improvement(np.array([0.6, 8.0]), np.array([0.5, 10.0]), better)
    assert float(improvements) == pytest.approx((20 + 20) / 2)


def test_the_metrics_of_a_task_count_equally_whatever_their_scale() -> None:
    improvements = task_improvement(
        np.array([0.11, 50.0]), np.array([0.1, 100.0]), np.array([True, True])
    )
    assert float(improvements) == pytest.approx((10 - 50) / 2)


def test_seeds_come_first() -> None:
    scores, baseline = np.array([[0.6, 1.1], [0.5, 1.0]]), np.array([[0.5, 1.0], [0.5, 1.0]])
    improvements = task_improvement(scores, baseline, np.array([True, True]))
    np.testing.assert_allclose(improvements, [15, 0])
    per_task = np.stack([improvements, -improvements], axis=-1)
    np.testing.assert_allclose(improvement(per_task), [0, 0])
    np.testing.assert_allclose(error(per_task), [7.5, 0])


def test_a_baseline_of_zero_has_no_relative_change() -> None:
    assert np.isnan(
        task_improvement(np.array([0.6, 0.1]), np.array([0.5, 0.0]), np.array([True, True]))
    )
    improvements = task_improvement(
        np.array([0.6, 0.0]), np.array([0.5, 0.0]), np.array([True, True])
    )
    assert float(improvements) == pytest.approx(10)


def test_a_negative_baseline_has_no_relative_change() -> None:
    """From -2 to -1 is a gain, and dividing by -2 would make it a loss of 50 %."""
    for better in (True, False):
        assert np.isnan(task_improvement(np.array([-1.0]), np.array([-2.0]), np.array([better])))
    assert task_improvement(np.array([-2.0]), np.array([-2.0]), UP) == 0
    assert float(task_improvement(np.array([-1.0]), np.array([2.0]), UP)) == pytest.approx(-150)


@given(PERCENTS)
def test_improvement_is_what_was_won_less_what_was_lost(per_task: list[float]) -> None:
    values = np.array(per_task)
    won = sum(max(0.0, value) for value in per_task) / len(per_task)
    lost = sum(max(0.0, -value) for value in per_task) / len(per_task)
    assert float(error(values)) == pytest.approx(lost, abs=1e-9)
    assert float(improvement(values)) == pytest.approx(won - lost, abs=1e-9)
    assert float(error(-values)) == pytest.approx(won, abs=1e-9)


def table(
    *rows: tuple[str, list[float]], header: str = "vqa:em caption:cider caption:loss-"
) -> Results:
    columns = tuple(Column(*name.split(":")) for name in header.split())
    return Results(
        tuple(name for name, _ in rows), columns, np.array([values for _, values in rows])
    )


def test_overall_by_hand() -> None:
    by_method = overall(table(("STL", [50.0, 2.0, 4.0]), ("EW", [55.0, 1.0, 3.0])), "STL")
    assert by_method["EW"].tasks == pytest.approx({"vqa": 10, "caption": (-50 + 25) / 2})
    assert by_method["EW"].improvement == pytest.approx(-1.25)
    assert by_method["EW"].error == pytest.approx(6.25)
    assert by_method["STL"] == Overall(0.0, 0.0, {"vqa": 0.0, "caption": 0.0})


def test_another_baseline_turns_the_signs() -> None:
    by_method = overall(table(("STL", [50.0, 2.0, 4.0]), ("EW", [55.0, 1.0, 3.0])), "EW")
    assert by_method["STL"].tasks == pytest.approx(
        {"vqa": -100 / 11, "caption": (100 - 100 / 3) / 2}
    )


def test_a_baseline_of_zero_is_named() -> None:
    with raises(ScoresError, "invalid-scores", "caption:cider (0)"):
        overall(table(("STL", [50.0, 0.0, 4.0]), ("EW", [55.0, 1.0, 3.0])), "STL")
    same = overall(table(("STL", [50.0, 0.0, 4.0]), ("EW", [55.0, 0.0, 4.0])), "STL")
    assert same["EW"].improvement == pytest.approx(5)


def test_a_negative_baseline_is_named() -> None:
    with raises(ScoresError, "invalid-scores", "STL", "vqa:em (-2)"):
        overall(table(("STL", [-2.0, 1.0, 4.0]), ("EW", [-1.0, 1.0, 3.0])), "STL")


def test_a_baseline_that_is_not_there() -> None:
    with raises(ScoresError, "unknown-method", "STL", "'EW'"):
        overall(table(("STL", [50.0, 2.0, 4.0])), "EW")


def test_draws_come_first() -> None:
    values = np.array(
        [[[1.0, 2.0], [1.1, 2.0]], [[1.0, 2.0], [0.9, 3.0]]]
    )  # [draw, method, column]
    improvements = task_improvements(values, (Column("a", "m"), Column("b", "m")), 0)
    np.testing.assert_allclose(improvements, [[[0, 0], [10, 0]], [[0, 0], [-10, 50]]])
