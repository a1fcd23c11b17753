from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cotbal.balance.weights import smallest_temperature, softmax_weights, weight_parts
from helpers.balance_cases import plain_softmax

NAN = float("nan")
VALUES = st.lists(st.floats(-3, 3), min_size=1, max_size=8)
TEMPERATURES = st.floats(0.05, 50)
PARTS = {"outward", "inward", "inter", "intra", "all"}


@given(VALUES, st.floats(0.2, 50))
def test_softmax_equals_loops(values: list[float], temperature: float) -> None:
    expected = plain_softmax(values, temperature)
    np.testing.assert_allclose(
        softmax_weights(np.array(values), temperature), expected, rtol=1e-9, atol=1e-300
    )


@given(VALUES, TEMPERATURES)
def test_softmax_is_positive_with_mean_one_and_keeps_the_order(
    values: list[float], temperature: float
) -> None:
    weights = softmax_weights(np.array(values), temperature)
    assert (weights > 0).all()
    assert weights.mean() == pytest.approx(1)
    assert (np.diff(weights[np.argsort(values)]) >= -1e-12).all()


@given(VALUES, TEMPERATURES, st.floats(-100, 100))
def test_softmax_does_not_mind_a_common_shift(
    values: list[float], temperature: float, shift: float
) -> None:
    weights = softmax_weights(np.array(values), temperature)
    np.testing.assert_allclose(
        softmax_weights(np.array(values) + shift, temperature), weights, rtol=1e-6, atol=1e-12
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e3, 1e8, 1e300])
def test_softmax_is_stable_for_huge_values(size: float) -> None:
    np.testing.assert_allclose(softmax_weights(np.array([size, 0.0, -size]), 0.5), [3, 0, 0])
    np.testing.assert_allclose(softmax_weights(np.array([size, size]), 0.5), [1, 1])


def test_softmax_of_equal_values_is_one() -> None:
    np.testing.assert_array_equal(softmax_weights(np.full(5, 0.3), 0.01), np.ones(5))


@pytest.mark.filterwarnings("error")
def test_what_is_not_identified_takes_the_mean_and_changes_no_other_weight() -> None:
    weights = softmax_weights(np.array([0.4, NAN, -0.2, NAN]), 0.5)
    np.testing.assert_array_equal(weights[[1, 3]], [1, 1])
    np.testing.assert_allclose(weights[[0, 2]], softmax_weights(np.array([0.4, -0.2]), 0.5))
    np.testing.assert_array_equal(softmax_weights(np.array([NAN, NAN]), 0.5), [1, 1])


def test_softmax_keeps_a_leading_axis() -> None:
    rows = np.array([[0.1, 0.2, NAN], [5.0, -1.0, 0.0]])
    stacked = softmax_weights(rows, 0.7)
    for row, weights in zip(rows, stacked, strict=True):
        np.testing.assert_allclose(weights, softmax_weights(row, 0.7))


def test_parts_by_hand() -> None:
    outward, inward, difficulty = np.array([0.5, 0.0]), np.array([0.0, 0.5]), np.array([0.3, 0.3])
    parts = weight_parts(outward, inward, difficulty, 0.5)
    high, low = 2 * np.e / (np.e + 1), 2 / (np.e + 1)
    np.testing.assert_allclose(parts["outward"], [high, low])  # helping others raises a weight
    np.testing.assert_allclose(parts["inward"], [high, low])  # being helped lowers it
    np.testing.assert_allclose(parts["intra"], [1, 1])
    np.testing.assert_allclose(parts["inter"], [high, low])
    np.testing.assert_allclose(parts["all"], [(high + 1) / 2, (low + 1) / 2])


@given(
    st.lists(st.tuples(*[st.floats(-2, 2) | st.just(NAN)] * 3), min_size=1, max_size=7),
    TEMPERATURES,
)
def test_every_part_is_positive_with_mean_one(
    rows: list[tuple[float, float, float]], temperature: float
) -> None:
    parts = weight_parts(*np.array(rows).T, temperature)
    assert set(parts) == PARTS
    for weights in parts.values():
        assert (weights > 0).all()
        assert weights.mean() == pytest.approx(1)


RANGES = st.tuples(st.floats(0.05, 0.95), st.floats(1.05, 5))


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=7), RANGES)
def test_the_temperature_found_is_the_smallest(
    values: list[float], bounds: tuple[float, float]
) -> None:
    low, high = bounds
    weights_at = lambda tau: softmax_weights(np.array(values), tau)  # noqa: E731
    smallest = smallest_temperature(weights_at, low, high)
    inside = lambda tau: bool(np.all((weights_at(tau) >= low) & (weights_at(tau) <= high)))  # noqa: E731
    assert inside(smallest)
    assert all(inside(smallest * factor) for factor in (1.001, 1.1, 2, 10))
    assume(smallest > 0.01)
    assert not inside(smallest * 0.999)


def test_a_narrower_range_needs_a_higher_temperature() -> None:
    values = np.array([0.9, 0.1, -0.4])
    ranges = [(0.1, 5.0), (0.4, 2.0), (0.6, 1.5), (0.9, 1.1)]
    temperatures = [
        smallest_temperature(lambda tau: softmax_weights(values, tau), *bounds) for bounds in ranges
    ]
    assert temperatures == sorted(temperatures)
    assert len(set(temperatures)) == len(temperatures)


def test_equal_values_are_in_range_at_any_temperature() -> None:
    assert smallest_temperature(lambda tau: softmax_weights(np.full(4, 0.7), tau), 0.5, 2.0) <= 1e-3
