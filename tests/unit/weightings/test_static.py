from __future__ import annotations

import numpy as np
import pytest

from cotbal.errors import CotbalError
from cotbal.weightings import (
    checked,
    dynamic_average,
    equal,
    fixed,
    improvable_gap,
    random_loss,
    task_level,
)

TASKS = ("ocr", "vqa", "chat")


@pytest.mark.parametrize("step", [0, 1, 999])
def test_equal(step: int) -> None:
    found = equal.build(TASKS, None)
    assert found.average == "token"
    np.testing.assert_array_equal(found.weights(step), [1, 1, 1])


@pytest.mark.parametrize("step", [0, 1, 999])
def test_task_level(step: int) -> None:
    found = task_level.build(TASKS, None)
    assert found.average == "task"
    np.testing.assert_array_equal(found.weights(step), [1, 1, 1])


def test_fixed_looks_weights_up_by_name() -> None:
    found = fixed.build(TASKS, {"chat": 1.0, "vqa": 0.5, "ocr": 1.5})
    assert found.average == "token"
    np.testing.assert_array_equal(found.weights(0), [1.5, 0.5, 1.0])
    np.testing.assert_array_equal(found.weights(0), found.weights(10_000))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (None, "cotbal balance"),
        ({"ocr": 1.0, "vqa": 1.0}, "no weight for chat"),
        ({"ocr": 1.0, "vqa": 1.0, "chat": 1.0, "caption": 1.0}, "no task caption"),
        ({"ocr": 1.0, "chat": 1.0, "caption": 1.0}, "no weight for vqa and no task caption"),
        ({"ocr": 0.0, "vqa": 1.0, "chat": 1.0}, "expected positive numbers; found ocr: 0.0"),
        (
            {"ocr": -1.0, "vqa": float("nan"), "chat": float("inf")},
            "found ocr: -1.0, vqa: nan, chat: inf",
        ),
    ],
)
def test_fixed_refuses_what_it_cannot_use(weights: dict[str, float] | None, message: str) -> None:
    with pytest.raises(CotbalError, match=message):
        fixed.build(TASKS, weights)


def test_fixed_has_no_options() -> None:
    with pytest.raises(
        CotbalError, match="weighting fixed: expected no options; found temperature"
    ):
        fixed.build(TASKS, dict.fromkeys(TASKS, 1.0), temperature=2)


@pytest.mark.parametrize(
    "module", [equal, task_level, random_loss, dynamic_average, improvable_gap]
)
def test_a_method_that_makes_its_own_weights_refuses_others(module: object) -> None:
    with pytest.raises(CotbalError, match="takes no weights"):
        module.build(TASKS, {"ocr": 1.0})  # type: ignore[attr-defined]


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
