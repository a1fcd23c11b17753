from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from cotbal.balance.contribution import contribution, inward, nan_mean, outward
from helpers.balance_cases import healthy, plain_contribution, plain_inward, plain_outward

NAN = float("nan")


def of(rows: list[list[float]], identified: list[bool] | None = None) -> np.ndarray:
    values = np.array(rows)
    tasks = values.shape[1]
    known = np.array([True] * tasks if identified is None else identified)
    return contribution(values[1:], values[0], np.arange(tasks), known)


def test_by_hand() -> None:
    rows = [[0.2, 0.4], [0.6, 0.5], [0.3, 0.8]]
    np.testing.assert_allclose(of(rows), [[1.0, 0.25], [0.25, 1.0]])


@given(healthy())
def test_equals_loops(rows: list[list[float]]) -> None:
    ratios = of(rows)
    np.testing.assert_allclose(ratios, plain_contribution(rows), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        outward(ratios), plain_outward(ratios.tolist()), rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(inward(ratios), plain_inward(ratios.tolist()), rtol=1e-9, atol=1e-9)


@given(healthy())
def test_a_task_gives_itself_one(rows: list[list[float]]) -> None:
    np.testing.assert_allclose(np.diag(of(rows)), 1.0)


@given(healthy())
def test_what_all_give_is_what_all_receive(rows: list[list[float]]) -> None:
    ratios = of(rows)
    np.testing.assert_allclose(outward(ratios).mean(), inward(ratios).mean(), atol=1e-9)


def test_a_leading_axis_is_kept() -> None:
    rows = np.array([[0.2, 0.4], [0.6, 0.5], [0.3, 0.8]])
    many = np.stack([rows, rows * 0.5, rows + 0.1])
    ratios = contribution(many[:, 1:], many[:, 0], np.arange(2), np.array([True, True]))
    for one, several in zip(many, ratios, strict=True):
        np.testing.assert_allclose(several, of(one.tolist()))
    assert outward(ratios).shape == inward(ratios).shape == (3, 2)


def test_an_unidentified_receiver_has_no_column_and_is_left_out_of_means() -> None:
    rows = [[0.2, 0.4, 0.1], [0.6, 0.5, 0.2], [0.3, 0.4, 0.3], [0.4, 0.6, 0.6]]
    ratios = of(rows, [True, False, True])
    assert np.isnan(ratios[:, 1]).all()
    assert not np.isnan(ratios[:, [0, 2]]).any()
    given_by_each = outward(ratios)
    np.testing.assert_allclose(
        given_by_each, [ratios[0, 2], (ratios[1, 0] + ratios[1, 2]) / 2, ratios[2, 0]]
    )
    received = inward(ratios)
    assert np.isnan(received[1])
    assert not np.isnan(received[[0, 2]]).any()


def test_without_another_identified_receiver_outward_is_nan() -> None:
    ratios = of([[0.2, 0.4], [0.6, 0.5], [0.3, 0.8]], [True, False])
    assert np.isnan(outward(ratios)[0])
    assert outward(ratios)[1] == pytest.approx(0.25)


@pytest.mark.filterwarnings("error")
def test_a_resample_without_gain_stays_extreme_and_finite() -> None:
    mini = np.array([[0.2, 0.4]])
    full = np.array(
        [[[0.2, 0.5], [0.3, 0.8]]]
    )  # the first task gains nothing, the second run still changes it
    ratios = contribution(full, mini, np.arange(2), np.array([True, True]))
    assert np.isfinite(ratios).all()
    assert ratios[0, 1, 0] >= 1e5


def test_a_group_receives_the_mean_over_its_tasks() -> None:
    # Tasks a and b are unit 0, c is unit 1.
    unit_of_task = np.array([0, 0, 1])
    mini = np.array([0.1, 10.0, 0.2])
    full = np.array([[0.3, 30.0, 0.3], [0.2, 15.0, 0.6]])
    per_task = contribution(full, mini, unit_of_task, np.ones(3, dtype=bool))
    np.testing.assert_allclose(per_task, [[1, 1, 0.25], [0.5, 0.25, 1]])
    np.testing.assert_allclose(nan_mean(per_task[:, :2]), [1, 0.375])


@pytest.mark.filterwarnings("error")
def test_nan_mean() -> None:
    values = np.array([[1.0, NAN, 3.0], [NAN, NAN, NAN]])
    np.testing.assert_array_equal(nan_mean(values), [2.0, NAN])
