"""What every weighting promises; a new file in `cotbal.weightings` is found and tested without a
line here.
"""

from __future__ import annotations

import json
from types import ModuleType

import numpy as np
import pytest
from jaxtyping import Float

from cotbal import plugins
from cotbal.errors import CotbalError
from cotbal.weightings import Weighting, build_weighting, takes_weights
from helpers.errors import raises

TASKS = ("ocr", "vqa", "caption")
WEIGHTS = {"vqa": 0.7, "caption": 1.2, "ocr": 1.1}
STEPS = (0, 1, 2, 500)
LONGER = 20  # steps that are looked at beyond the one from which on weights may move


@pytest.fixture(params=plugins.names("cotbal.weightings"))
def module(request: pytest.FixtureRequest) -> ModuleType:
    return plugins.load("cotbal.weightings", request.param)


def build(module: ModuleType, tasks: tuple[str, ...] = TASKS) -> Weighting:
    """With weights where the method takes them, without where it makes its own."""
    name = module.__name__.rpartition(".")[2]
    return build_weighting(name, tasks, given(name, tasks))


def given(name: str, tasks: tuple[str, ...] = TASKS) -> dict[str, float] | None:
    return {task: WEIGHTS[task] for task in tasks} if takes_weights(name) else None


def steps(count: int, seed: int = 0) -> Float[np.ndarray, "step task"]:
    """Losses that fall at different speeds, with noise, and with NaN where a task is absent."""
    generator = np.random.default_rng(seed)
    falling = np.exp(-np.arange(count)[:, None] * np.array([0.0, 0.004, 0.02])) * [1.0, 3.0, 2.0]
    losses = falling * generator.uniform(0.8, 1.2, falling.shape)
    return np.where(generator.random(falling.shape) < 0.3, np.nan, losses)


def observe(
    weighting: Weighting, losses: Float[np.ndarray, "step task"]
) -> Float[np.ndarray, "step task"]:
    """Let it hear of these steps one by one; its weights before each."""
    seen = []
    for step, row in enumerate(losses):
        seen.append(weighting.weights(step))
        weighting.observe(row, np.where(np.isnan(row), 0, 7))
    return np.array(seen)


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
    name = module.__name__.rpartition(".")[2]
    if takes_weights(name):
        weights = build_weighting(name, TASKS, WEIGHTS).weights(0)
        np.testing.assert_allclose(weights, [WEIGHTS[task] for task in TASKS])
    else:
        with raises(CotbalError, "unexpected-weights", name):
            build_weighting(name, TASKS, WEIGHTS)


def test_it_rejects_unknown_options(module: ModuleType) -> None:
    name = module.__name__.rpartition(".")[2]
    with raises(CotbalError, "unknown-option", name, "halflife"):
        build_weighting(name, TASKS, given(name), options={"halflife": 3})


def test_weights_are_equal_until_it_starts_and_may_differ_from_then_on(module: ModuleType) -> None:
    weighting = build(module)
    seen = observe(weighting, steps(weighting.starts + 1))
    np.testing.assert_array_equal(seen[: weighting.starts], 1)
    if weighting.starts:
        assert np.ptp(seen[weighting.starts]) > 0.05


def test_the_mean_weight_is_one_unless_weights_were_given(module: ModuleType) -> None:
    weighting = build(module)
    seen = observe(weighting, steps(weighting.starts + LONGER))
    given = [WEIGHTS[task] for task in TASKS] if module.LABEL == "CoTBal" else [1.0]
    np.testing.assert_allclose(seen.mean(axis=1), np.mean(given))


@pytest.mark.parametrize(
    "hard", ["never there", "away for long", "no number", "solved", "spike", "all absent"]
)
def test_no_loss_makes_a_weight_that_is_no_positive_number(module: ModuleType, hard: str) -> None:
    weighting = build(module)
    losses = steps(3 * weighting.starts + LONGER)
    middle = slice(max(1, weighting.starts // 2), len(losses) - 5)
    if hard == "never there":
        losses[:, 1] = np.nan
    elif hard == "away for long":  # more than two windows
        losses[weighting.starts : -5, 1] = np.nan
    elif hard == "no number":
        losses[5:, 1], losses[7:, 2] = np.inf, -np.inf
        weighting.observe(np.full(3, np.nan), np.full(3, 7))  # present, and diverged
    elif hard == "solved":
        losses[:, 1] = 0.0
    elif hard == "spike":
        losses[middle, 1], losses[-5:, 1] = 1e-12, 1e12
    else:
        losses[middle] = np.nan
    seen = observe(weighting, losses).astype(np.float32)
    assert np.isfinite(seen).all()
    assert (seen > 0).all()


def test_its_state_is_json_and_resuming_is_exact(module: ModuleType) -> None:
    """At the start, inside the first window, just before and just after the weights begin to move,
    and late.
    """
    reference = build(module)
    losses = steps(3 * reference.starts + LONGER)
    expected = observe(reference, losses)
    starts = reference.starts
    for stop in {0, 1, starts // 3, starts - 1, starts, starts + 1, 2 * starts + 9} & set(
        range(len(losses))
    ):
        before, after = build(module), build(module)
        observe(before, losses[:stop])
        after.load_state_dict(json.loads(json.dumps(before.state_dict(), allow_nan=False)))
        seen = []
        for step in range(stop, len(losses)):
            seen.append(after.weights(step))
            after.observe(losses[step], np.where(np.isnan(losses[step]), 0, 7))
        np.testing.assert_array_equal(seen, expected[stop:])


def test_a_saved_state_does_not_change_afterwards(module: ModuleType) -> None:
    weighting = build(module)
    observe(weighting, steps(3))
    state = weighting.state_dict()
    text = json.dumps(state)
    observe(weighting, steps(3, seed=1))
    assert json.dumps(state) == text


def test_it_has_a_name_of_its_own(module: ModuleType) -> None:
    labels = [
        plugins.load("cotbal.weightings", name).LABEL for name in plugins.names("cotbal.weightings")
    ]
    assert module.LABEL
    assert labels.count(module.LABEL) == 1


def test_it_is_documented(module: ModuleType) -> None:
    assert module.__doc__
    assert module.build.__doc__
