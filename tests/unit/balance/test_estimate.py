from __future__ import annotations

import numpy as np
from hypothesis import given

from cotbal.balance.estimate import Identified, Places, estimate
from helpers.balance_cases import (
    healthy,
    plain_contribution,
    plain_difficulty,
    plain_inward,
    plain_outward,
)


def standard(unit_of: list[int]) -> Places:
    """Row 0 is the mini probe, row 1 + u the probe of unit u."""
    rows = np.array(unit_of) + 1
    return Places(
        0,
        np.arange(1, max(unit_of) + 2),
        rows,
        np.zeros(len(unit_of), dtype=int),
        np.array(unit_of),
    )


def known(tasks: int) -> Identified:
    return Identified(np.ones(tasks, dtype=bool), np.ones(tasks, dtype=bool))


@given(healthy())
def test_equals_loops(rows: list[list[float]]) -> None:
    values, tasks = np.array(rows), len(rows[0])
    found = estimate(values, standard([*range(tasks)]), known(tasks))
    c = plain_contribution(rows)
    np.testing.assert_allclose(found.contribution, c, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(found.outward, plain_outward(c), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(found.inward, plain_inward(c), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(found.difficulty, plain_difficulty(rows), rtol=1e-8, atol=1e-9)


def test_resamples_are_estimated_one_by_one() -> None:
    generator = np.random.default_rng(0)
    many = generator.uniform(0.1, 0.4, (6, 4, 3))
    many[:, 1:] += 0.4 * np.eye(3)
    together = estimate(many, standard([0, 1, 2]), known(3))
    for place, values in enumerate(many):
        alone = estimate(values, standard([0, 1, 2]), known(3))
        for name, numbers in vars(alone).items():
            np.testing.assert_allclose(getattr(together, name)[place], numbers, err_msg=name)


def test_a_group_is_averaged_inside_and_is_no_other_to_itself() -> None:
    # Unit 0 is the tasks a and b, unit 1 is c; the metric of b has another scale.
    mini = np.array([0.1, 10.0, 0.2])
    full = np.array([[0.3, 30.0, 0.3], [0.2, 15.0, 0.6]])
    found = estimate(np.vstack([mini, full]), standard([0, 0, 1]), known(3))
    np.testing.assert_allclose(found.contribution, [[1, 0.25], [0.375, 1]])
    np.testing.assert_allclose(found.outward, [0.25, 0.375])
    np.testing.assert_allclose(found.inward, [0.375, 0.25])
    np.testing.assert_allclose(found.difficulty, [2 / 3, 2 / 3])


def test_the_scale_of_one_tasks_metric_cancels() -> None:
    values = np.array([[0.1, 0.3], [0.5, 0.4], [0.2, 0.9]])
    one = estimate(values, standard([0, 1]), known(2))
    scaled = values * [100, 1]
    other = estimate(scaled, standard([0, 1]), known(2))
    for name, numbers in vars(one).items():
        np.testing.assert_allclose(getattr(other, name), numbers, err_msg=name)
