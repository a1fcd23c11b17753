from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given

from cotbal.balance.measures import Measures, measure
from cotbal.balance.probes import read_probes
from cotbal.scores.matrix import ScoreMatrix
from helpers.balance_cases import (
    healthy,
    plain_contribution,
    plain_difficulty,
    plain_inward,
    plain_outward,
)


def measured(
    scores: np.ndarray, unit_of_task: list[int], has_gain: list[bool] | None = None
) -> Measures:
    """Row 0 is the mini probe, row 1 + u the probe of unit u; resamples first, if any."""
    units = [f"u{unit}" for unit in unit_of_task]
    tasks = tuple(f"t{task}" for task in range(len(units)))
    runs = ("mini", *(f"full:{unit}" for unit in dict.fromkeys(units)))
    table = scores.reshape(-1, len(runs), len(tasks))[0]
    probes = read_probes(ScoreMatrix(runs, tasks, table), dict(zip(tasks, units, strict=True)))
    if has_gain is not None:
        probes = replace(probes, has_gain=np.array(has_gain))
    return measure(scores, probes)


@given(healthy())
def test_equals_loops(rows: list[list[float]]) -> None:
    values, tasks = np.array(rows), len(rows[0])
    measures = measured(values, [*range(tasks)])
    c = plain_contribution(rows)
    np.testing.assert_allclose(measures.contribution, c, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(measures.outward, plain_outward(c), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(measures.inward, plain_inward(c), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(measures.difficulty, plain_difficulty(rows), rtol=1e-8, atol=1e-9)


def test_resamples_are_measured_one_by_one() -> None:
    generator = np.random.default_rng(0)
    many = generator.uniform(0.1, 0.4, (6, 4, 3))
    many[:, 1:] += 0.4 * np.eye(3)
    together = measured(many, [0, 1, 2])
    for index, values in enumerate(many):
        alone = measured(values, [0, 1, 2])
        for name, numbers in vars(alone).items():
            np.testing.assert_allclose(getattr(together, name)[index], numbers, err_msg=name)


def test_a_group_is_averaged_inside_and_is_no_other_to_itself() -> None:
    # Unit 0 is the tasks a and b, unit 1 is c; the metric of b has another scale.
    mini = np.array([0.1, 10.0, 0.2])
    full = np.array([[0.3, 30.0, 0.3], [0.2, 15.0, 0.6]])
    measures = measured(np.vstack([mini, full]), [0, 0, 1])
    np.testing.assert_allclose(measures.contribution, [[1, 0.25], [0.375, 1]])
    np.testing.assert_allclose(measures.outward, [0.25, 0.375])
    np.testing.assert_allclose(measures.inward, [0.375, 0.25])
    np.testing.assert_allclose(measures.difficulty, [2 / 3, 2 / 3])


def test_a_group_rests_on_those_of_its_tasks_that_are_identified() -> None:
    values = np.array([[0.1, 10.0, 0.2], [0.3, 10.0, 0.3], [0.2, 15.0, 0.6]])
    measures = measured(values, [0, 0, 1], [True, False, True])
    np.testing.assert_allclose(measures.contribution, [[1, 0.25], [0.5, 1]])


def test_the_scale_of_one_tasks_metric_cancels() -> None:
    values = np.array([[0.1, 0.3], [0.5, 0.4], [0.2, 0.9]])
    one = measured(values, [0, 1])
    scaled = values * [100, 1]
    other = measured(scaled, [0, 1])
    for name, numbers in vars(one).items():
        np.testing.assert_allclose(getattr(other, name), numbers, err_msg=name)
