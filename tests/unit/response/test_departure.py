"""How far weights are from equal ones: of all weights, and of a score's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cotbal.response.coordinates import doublings
from cotbal.response.departure import (
    Departure,
    joint_departure,
    joint_gradient,
    joint_hessian,
    single_departures,
)

Z = np.array([0.5, -1.0, 0.7, -0.2])
OWN = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=float)


def slopes(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Derivatives at `Z`, the last axis that of the weights."""
    steps = 1e-5 * np.eye(len(Z))
    return np.stack([(function(Z + s) - function(Z - s)) / 2e-5 for s in steps], axis=-1)


@pytest.mark.parametrize("distance", [joint_departure, lambda z: single_departures(z).mean()])
def test_it_is_a_squared_distance_near_equal_weights(distance: Callable) -> None:
    z = doublings(np.exp2(np.array([0.02, -0.03, 0.05, 0.01])))
    assert distance(z) == pytest.approx((z**2).sum(), rel=1e-3)
    assert distance(-z) == distance(z)
    assert distance(np.zeros(4)) == 0
    far = doublings(np.exp2(np.array([20.0, 0, 0, 0])))
    assert distance(2 * far) < 2.5 * distance(far), "it grows linearly"


def test_derivatives_of_the_joint_departure() -> None:
    assert joint_gradient(Z) == pytest.approx(slopes(joint_departure))
    assert joint_hessian(Z) == pytest.approx(slopes(joint_gradient), abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_derivatives_of_the_departures_of_scores(share: float) -> None:
    departure = Departure(OWN, share)
    assert departure.gradient(Z) == pytest.approx(slopes(departure))
    assert departure.hessian(Z) == pytest.approx(slopes(departure.gradient), abs=1e-6)
    assert departure.excess_gradient(Z) == pytest.approx(slopes(departure.excess))
    many = np.stack([Z, 2 * Z])
    assert departure.gradient(many)[1] == pytest.approx(departure.gradient(2 * Z))
    assert departure(many)[1] == pytest.approx(departure(2 * Z))


def test_a_score_counts_its_own_weight_by_the_share() -> None:
    joint, single = joint_departure(Z), single_departures(Z)
    departures = Departure(OWN, 0.25)(Z)
    assert departures == pytest.approx(
        [0.75 * joint + 0.25 * single[1], 0.75 * joint + 0.25 * single[0], joint]
    )


def test_weights_equally_far_up_and_down_do_not_tell_the_share() -> None:
    balanced = np.array([0.75, -0.75, 0.75, -0.75])
    assert Departure(OWN).excess(balanced) == pytest.approx(np.zeros(3), abs=1e-12)


def test_that_of_a_sum_is_the_sum_of_those_of_its_scores() -> None:
    departure, shares = Departure(OWN, 0.6, 0.1), np.array([0.2, 0.5, 0.3])
    combined = departure.combined(shares)
    assert combined(Z) == pytest.approx([shares @ departure(Z)])
    assert combined.error == 0.1
