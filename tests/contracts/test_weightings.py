"""What every weighting promises; a new file in `cotbal.weightings` is found and tested without a
line here.
"""

from __future__ import annotations

import json

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
MODULES = plugins.names("cotbal.weightings")
LONGER = 20  # steps that are looked at beyond the one from which on weights may move


def every() -> list[str]:
    """All methods; of one that needs a variant, all that it lists."""
    names: list[str] = []
    for name in MODULES:
        module = plugins.load("cotbal.weightings", name)
        variants = getattr(module, "SUPPORTED", getattr(module, "EXAMPLES", ()))
        names += [f"{name}:{variant}" for variant in variants] or [name]
    return names


@pytest.fixture(params=every())
def name(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


def build(name: str, tasks: tuple[str, ...] = TASKS) -> Weighting:
    """With weights where the method takes them, without where it makes its own."""
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
    """Let it observe these steps one by one; its weights before each."""
    seen = []
    for step, row in enumerate(losses):
        seen.append(weighting.weights(step))
        weighting.observe(row, np.where(np.isnan(row), 0, 7))
    return np.array(seen)


def test_it_averages_over_tokens_or_over_tasks(name: str) -> None:
    assert build(name).average in ("token", "task")


@pytest.mark.parametrize("step", STEPS)
def test_weights_are_positive_numbers_one_per_task(name: str, step: int) -> None:
    weights = build(name).weights(step)
    assert weights.shape == (len(TASKS),)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()


@pytest.mark.parametrize("step", STEPS)
def test_two_of_a_kind_agree(name: str, step: int) -> None:
    """Every worker builds its own, and all must weigh alike."""
    np.testing.assert_array_equal(build(name).weights(step), build(name).weights(step))


def test_the_order_of_the_tasks_is_that_of_the_weights(name: str) -> None:
    weights = build(name).weights(0)
    turned = build(name, TASKS[::-1]).weights(0)
    np.testing.assert_allclose(turned, weights[::-1])


def test_one_task(name: str) -> None:
    assert build(name, ("ocr",)).weights(0).shape == (1,)


def test_it_takes_weights_or_says_why_not(name: str) -> None:
    """Either way: weights that have no effect would never be noticed."""
    if takes_weights(name):
        weights = build_weighting(name, TASKS, WEIGHTS).weights(0)
        np.testing.assert_allclose(weights, [WEIGHTS[task] for task in TASKS])
    else:
        with raises(CotbalError, "unexpected-weights", name):
            build_weighting(name, TASKS, WEIGHTS)


def test_it_rejects_unknown_options(name: str) -> None:
    with raises(CotbalError, "unknown-option", name, "halflife"):
        build_weighting(name, TASKS, given(name), options={"halflife": 3})


def test_weights_are_equal_until_it_starts_and_may_differ_from_then_on(name: str) -> None:
    weighting = build(name)
    seen = observe(weighting, steps(weighting.starts + 1))
    np.testing.assert_array_equal(seen[: weighting.starts], 1)
    if weighting.starts:
        assert np.ptp(seen[weighting.starts]) > 0.01


def test_the_mean_weight_is_one_unless_weights_were_given(name: str) -> None:
    weighting = build(name)
    seen = observe(weighting, steps(weighting.starts + LONGER))
    given = [WEIGHTS[task] for task in TASKS] if takes_weights(name) else [1.0]
    np.testing.assert_allclose(seen.mean(axis=1), np.mean(given))


@pytest.mark.parametrize(
    "hard", ["never there", "away for long", "no number", "solved", "spike", "all absent"]
)
def test_no_loss_makes_a_weight_that_is_no_positive_number(name: str, hard: str) -> None:
    weighting = build(name)
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


def test_its_state_is_json_and_resuming_is_exact(name: str) -> None:
    """At the start, inside the first window, just before and just after the weights begin to move,
    and late.
    """
    reference = build(name)
    losses = steps(3 * reference.starts + LONGER)
    expected = observe(reference, losses)
    starts = reference.starts
    for stop in {0, 1, starts // 3, starts - 1, starts, starts + 1, 2 * starts + 9} & set(
        range(len(losses))
    ):
        before, after = build(name), build(name)
        observe(before, losses[:stop])
        after.load_state_dict(json.loads(json.dumps(before.state_dict(), allow_nan=False)))
        seen = []
        for step in range(stop, len(losses)):
            seen.append(after.weights(step))
            after.observe(losses[step], np.where(np.isnan(losses[step]), 0, 7))
        np.testing.assert_array_equal(seen, expected[stop:])


def test_a_saved_state_does_not_change_afterwards(name: str) -> None:
    weighting = build(name)
    observe(weighting, steps(3))
    state = weighting.state_dict()
    text = json.dumps(state)
    observe(weighting, steps(3, seed=1))
    assert json.dumps(state) == text


def test_labels_are_unique() -> None:
    labels = [plugins.load("cotbal.weightings", name).LABEL for name in MODULES]
    assert all(labels)
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("name", MODULES)
def test_it_is_documented(name: str) -> None:
    module = plugins.load("cotbal.weightings", name)
    assert module.__doc__
    assert module.build.__doc__
