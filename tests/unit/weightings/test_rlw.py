from __future__ import annotations

import numpy as np

from cotbal.weightings import rlw

TASKS = ("ocr", "vqa", "chat", "charts")


def test_weights_come_from_seed_and_step_alone() -> None:
    """Whatever else draws numbers in the process, and however often the step is asked for."""
    one, two = rlw.build(TASKS, seed=3), rlw.build(TASKS, seed=3)
    first = one.weights(7)
    np.random.default_rng().normal(size=11)
    two.weights(1)
    np.testing.assert_array_equal(two.weights(7), first)
    assert len({tuple(one.weights(step)) for step in range(10)}) == 10
    assert not np.allclose(rlw.build(TASKS, seed=4).weights(7), first)


def test_a_draw_belongs_to_the_name_of_its_task() -> None:
    plain, turned = rlw.build(TASKS), rlw.build(TASKS[::-1])
    np.testing.assert_array_equal(turned.weights(5), plain.weights(5)[::-1])


def test_logarithms_of_the_weights_are_standard_normal_up_to_a_shift() -> None:
    weighting = rlw.build(TASKS)
    logs = np.log([weighting.weights(step) for step in range(3000)])
    centred = logs - logs.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(centred.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(centred.var(axis=0), 1 - 1 / len(TASKS), atol=0.06)
