"""What every weighting promises; a new file in `cotbal.weightings` is found and tested without a line here."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from cotbal import plugins
from cotbal.errors import CotbalError
from cotbal.weightings import Weighting

TASKS = ("ocr", "vqa", "caption")
WEIGHTS = {"vqa": 0.7, "caption": 1.2, "ocr": 1.1}
STEPS = (0, 1, 2, 500)


@pytest.fixture(params=plugins.names("cotbal.weightings"))
def module(request: pytest.FixtureRequest) -> ModuleType:
    return plugins.load("cotbal.weightings", request.param)


def build(module: ModuleType, tasks: tuple[str, ...] = TASKS) -> Weighting:
    """With weights where the method needs them, without where it makes its own."""
    try:
        found: Weighting = module.build(tasks, None)
    except CotbalError:
        found = module.build(tasks, {task: WEIGHTS[task] for task in tasks})
    return found


def test_it_averages_over_tokens_or_over_tasks(module: ModuleType) -> None:
    assert build(module).average in ("token", "task")


@pytest.mark.parametrize("step", STEPS)
def test_weights_are_positive_numbers_one_a_task(module: ModuleType, step: int) -> None:
    weights = build(module).weights(step)
    assert weights.shape == (len(TASKS),)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()


@pytest.mark.parametrize("step", STEPS)
def test_two_of_a_kind_agree(module: ModuleType, step: int) -> None:
    """Every worker builds its own, and all must weigh alike."""
    np.testing.assert_array_equal(build(module).weights(step), build(module).weights(step))


def test_the_order_of_the_tasks_is_that_of_the_weights(module: ModuleType) -> None:
    weights = build(module).weights(0)
    turned = build(module, TASKS[::-1]).weights(0)
    np.testing.assert_allclose(turned, weights[::-1])


def test_one_task(module: ModuleType) -> None:
    assert build(module, ("ocr",)).weights(0).shape == (1,)


def test_it_takes_weights_or_says_why_not(module: ModuleType) -> None:
    """Either way: weights that have no effect would never be noticed."""
    try:
        weights = module.build(TASKS, WEIGHTS).weights(0)
    except CotbalError:
        with pytest.raises(CotbalError, match="takes no weights"):
            module.build(TASKS, WEIGHTS)
    else:
        np.testing.assert_allclose(weights, [WEIGHTS[task] for task in TASKS])


def test_it_is_documented(module: ModuleType) -> None:
    assert module.__doc__
    assert module.build.__doc__
