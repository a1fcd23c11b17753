from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.errors import ScoresError
from cotbal.improvement import error, improvement, improvements, task_improvement

PERCENTS = st.lists(st.floats(-100, 100), min_size=1, max_size=8)
UP = np.array([True])


def test_a_relative_change_in_percent() -> None:
    assert float(task_improvement(np.array([0.6]), np.array([0.5]), UP)) == pytest.approx(20)
    assert float(task_improvement(np.array([0.4]), np.array([0.5]), UP)) == pytest.approx(-20)


def test_lower_may_be_better() -> None:
    better = np.array([True, False])
    found = task_improvement(np.array([0.6, 8.0]), np.array([0.5, 10.0]), better)
    assert float(found) == pytest.approx((20 + 20) / 2)


def test_the_metrics_of_a_task_count_equally_whatever_their_scale() -> None:
    found = task_improvement(np.array([0.11, 50.0]), np.array([0.1, 100.0]), np.array([True, True]))
    assert float(found) == pytest.approx((10 - 50) / 2)


def test_seeds_come_first() -> None:
    scores, baseline = np.array([[0.6, 1.1], [0.5, 1.0]]), np.array([[0.5, 1.0], [0.5, 1.0]])
    found = task_improvement(scores, baseline, np.array([True, True]))
    np.testing.assert_allclose(found, [15, 0])
    per_task = np.stack([found, -found], axis=-1)
    np.testing.assert_allclose(improvement(per_task), [0, 0])
    np.testing.assert_allclose(error(per_task), [7.5, 0])


def test_a_baseline_of_zero_has_no_relative_change() -> None:
    with pytest.raises(ScoresError, match="baseline is 0"):
        task_improvement(np.array([0.6, 0.1]), np.array([0.5, 0.0]), np.array([True, True]))


@given(PERCENTS)
def test_improvement_is_what_was_won_less_what_was_lost(per_task: list[float]) -> None:
    values = np.array(per_task)
    won = sum(max(0.0, value) for value in per_task) / len(per_task)
    lost = sum(max(0.0, -value) for value in per_task) / len(per_task)
    assert float(error(values)) == pytest.approx(lost, abs=1e-9)
    assert float(improvement(values)) == pytest.approx(won - lost, abs=1e-9)
    assert float(error(-values)) == pytest.approx(won, abs=1e-9)


def test_by_name() -> None:
    ours = {"vqa": [55.0], "caption": [1.0, 3.0]}
    theirs = {"caption": [2.0, 3.0], "vqa": [50.0]}
    assert improvements(ours, theirs) == pytest.approx({"vqa": 10, "caption": -25})
    assert improvements(ours, theirs, {"caption": [False, True]}) == pytest.approx({"vqa": 10, "caption": 25})


def test_equal_to_a_baseline_of_zero_is_no_change() -> None:
    assert improvements({"vqa": [0.0]}, {"vqa": [0.0]}) == {"vqa": 0.0}
    with pytest.raises(ScoresError):
        improvements({"vqa": [0.1]}, {"vqa": [0.0]})
