"""Temperature sampling: ratios from the numbers of records alone."""

from __future__ import annotations

import pytest

from cotbal.errors import CotbalError
from cotbal.recipe.ratios import passes
from cotbal.weightings import build_weighting, method_label
from cotbal.weightings.sampling import ratios
from helpers.errors import raises

SIZES = {"large": 1600, "small": 100}


@pytest.mark.parametrize(("exponent", "expected"), [(0, 1), (0.5, 4), (0.25, 2), (1, 16)])
def test_tasks_are_shown_in_proportion_to_a_power_of_their_records(
    exponent: float, expected: float
) -> None:
    sampled = ratios(SIZES, exponent)
    assert sum(sampled.values()) == pytest.approx(2)
    times = passes(sampled, SIZES)
    shown = {task: times[task] * SIZES[task] for task in SIZES}
    assert shown["large"] / shown["small"] == pytest.approx(expected)
    assert sum(shown.values()) == pytest.approx(1700)


@pytest.mark.parametrize("variant", ["x", "-0.1", "1.1", "nan", "inf"])
def test_other_than_an_exponent_is_an_error(variant: str) -> None:
    with raises(CotbalError, "invalid-option", variant):
        build_weighting(f"sampling:{variant}", ["a"])


def test_all_tokens_count_alike() -> None:
    weighting = build_weighting("sampling:0.5", ["a", "b"])
    assert weighting.weights(3).tolist() == [1.0, 1.0]
    assert weighting.average == "token"
    assert method_label("sampling:0.5") == "Sampling: 0.5"
    with raises(CotbalError, "unknown-name", "sampling:"):
        build_weighting("sampling", ["a"])
