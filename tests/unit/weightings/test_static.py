from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cotbal.errors import CotbalError
from cotbal.weightings import build_weighting, checked, takes_weights

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
    ("weights", "message"),
    [
        (None, "cotbal balance"),
        ({"ocr": 1.0, "vqa": 1.0}, "no weight for chat"),
        ({"ocr": 1.0, "vqa": 1.0, "chat": 1.0, "caption": 1.0}, "no task caption"),
        ({"ocr": 1.0, "chat": 1.0, "caption": 1.0}, "no weight for vqa, no task caption"),
        ({"ocr": 0.0, "vqa": 1.0, "chat": 1.0}, "expected one positive number .* found ocr: 0.0"),
        (
            {"ocr": -1.0, "vqa": float("nan"), "chat": float("inf")},
            "found ocr: -1.0, vqa: nan, chat: inf",
        ),
    ],
)
def test_fixed_weights_that_do_not_fit_are_rejected(
    weights: dict[str, float] | None, message: str
) -> None:
    with pytest.raises(CotbalError, match=message):
        build_weighting("cotbal", TASKS, weights)


def test_fixed_weights_have_no_options() -> None:
    with pytest.raises(CotbalError, match="cotbal: expected no options; found temperature"):
        build_weighting("cotbal", TASKS, dict.fromkeys(TASKS, 1.0), options={"temperature": 2})


@pytest.mark.parametrize("name", OWN_WEIGHTS)
def test_a_method_that_makes_its_own_weights_rejects_others(name: str) -> None:
    assert not takes_weights(name)
    with pytest.raises(CotbalError, match="takes no weights"):
        build_weighting(name, TASKS, {"ocr": 1.0})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dwa", {"alpha": 1}, "expected only window, temperature; found alpha"),
        ("igbv1", {"temperature": 2}, "expected only window; found temperature"),
        ("rlw", {"seed": 3}, "expected no options; found seed"),
        ("tla", {"window": 3}, "expected no options; found window"),
    ],
)
def test_options_are_checked_against_the_signature(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CotbalError, match=message):
        build_weighting(name, TASKS, options=options)


def test_the_seed_reaches_a_method_that_draws_at_random() -> None:
    one, two = (build_weighting("rlw", TASKS, seed=seed).weights(0) for seed in (1, 2))
    assert not np.allclose(one, two)


def test_weights_that_can_weigh_losses_pass_as_they_are() -> None:
    values = np.array([0.0, 1.5, 2.0])
    assert checked(values, 3) is values


@pytest.mark.parametrize(
    ("values", "found"),
    [([1.0, -0.5], "-0.5"), ([1.0, float("nan")], "nan"), ([1.0, float("inf")], "inf")],
)
def test_a_weighting_of_a_user_must_give_numbers_that_are_not_negative(
    values: list[float], found: str
) -> None:
    with pytest.raises(
        CotbalError, match=f"expected 2 finite weights of 0 or more; found .*{found}"
    ):
        checked(np.array(values), 2)
    with pytest.raises(CotbalError, match=r"expected 3 finite weights of 0 or more"):
        checked(np.ones(2), 3)
