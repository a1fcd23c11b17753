from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cotbal.errors import CotbalError
from cotbal.weightings import build_weighting, checked, takes_weights
from helpers.errors import raises

TASKS = ("ocr", "vqa", "chat")
OWN_WEIGHTS = ("ew", "tla", "rlw", "dwa", "igbv1")  # methods that make their own


@pytest.mark.parametrize("step", [0, 1, 999])
def test_ew(step: int) -> None:
    weighting = build_weighting("ew", TASKS)
    assert weighting.average == "token"
    np.testing.assert_array_equal(weighting.weights(step), [1, 1, 1])


@pytest.mark.parametrize("step", [0, 1, 999])
def test_tla(step: int) -> None:
    weighting = build_weighting("tla", TASKS)
    assert weighting.average == "task"
    np.testing.assert_array_equal(weighting.weights(step), [1, 1, 1])


def test_fixed_weights_are_looked_up_by_name() -> None:
    weighting = build_weighting("cotbal", TASKS, {"chat": 1.0, "vqa": 0.5, "ocr": 1.5})
    assert weighting.average == "token"
    np.testing.assert_array_equal(weighting.weights(0), [1.5, 0.5, 1.0])
    np.testing.assert_array_equal(weighting.weights(0), weighting.weights(10_000))


@pytest.mark.parametrize(
    ("weights", "code", "names"),
    [
        (None, "missing-weights", ["cotbal balance", "--weights"]),
        ({"ocr": 1.0, "vqa": 1.0}, "invalid-weights", ["weight for chat"]),
        (
            {"ocr": 1.0, "vqa": 1.0, "chat": 1.0, "caption": 1.0},
            "invalid-weights",
            ["task caption"],
        ),
        (
            {"ocr": 1.0, "chat": 1.0, "caption": 1.0},
            "invalid-weights",
            ["weight for vqa", "task caption"],
        ),
        ({"ocr": 0.0, "vqa": 1.0, "chat": 1.0}, "invalid-weights", ["ocr: 0.0"]),
        (
            {"ocr": -1.0, "vqa": float("nan"), "chat": float("inf")},
            "invalid-weights",
            ["ocr: -1.0", "vqa: nan", "chat: inf"],
        ),
    ],
)
def test_fixed_weights_that_do_not_fit_are_rejected(
    weights: dict[str, float] | None, code: str, names: list[str]
) -> None:
    with raises(CotbalError, code, *names):
        build_weighting("cotbal", TASKS, weights)


def test_fixed_weights_have_no_options() -> None:
    with raises(CotbalError, "unknown-option", "cotbal", "temperature"):
        build_weighting("cotbal", TASKS, dict.fromkeys(TASKS, 1.0), options={"temperature": 2})


@pytest.mark.parametrize("name", OWN_WEIGHTS)
def test_a_method_that_makes_its_own_weights_rejects_others(name: str) -> None:
    assert not takes_weights(name)
    with raises(CotbalError, "unexpected-weights", name):
        build_weighting(name, TASKS, {"ocr": 1.0})


@pytest.mark.parametrize(
    ("name", "options", "known"),
    [
        ("dwa", {"alpha": 1}, "window, temperature"),
        ("igbv1", {"temperature": 2}, "window"),
        ("rlw", {"seed": 3}, "no options"),
        ("tla", {"window": 3}, "no options"),
    ],
)
def test_options_are_checked_against_the_signature(
    name: str, options: dict[str, Any], known: str
) -> None:
    with raises(CotbalError, "unknown-option", name, known, *options):
        build_weighting(name, TASKS, options=options)


def test_the_seed_reaches_a_method_that_draws_at_random() -> None:
    one, two = (build_weighting("rlw", TASKS, seed=seed).weights(0) for seed in (1, 2))
    assert not np.allclose(one, two)


def test_valid_weights_of_a_step_are_not_changed() -> None:
    values = np.array([0.0, 1.5, 2.0])
    assert checked(values, 3) is values


@pytest.mark.parametrize(
    ("values", "shown"),
    [([1.0, -0.5], "-0.5"), ([1.0, float("nan")], "nan"), ([1.0, float("inf")], "inf")],
)
def test_a_weighting_of_a_user_must_give_numbers_that_are_not_negative(
    values: list[float], shown: str
) -> None:
    with raises(CotbalError, "invalid-weights", 2, shown):
        checked(np.array(values), 2)
    with raises(CotbalError, "invalid-weights", 3, "1, 1"):
        checked(np.ones(2), 3)
