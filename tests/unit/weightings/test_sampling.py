"""Temperature sampling: ratios from the numbers of records alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cotbal.errors import CotbalError
from cotbal.jobs.sampling import with_sampling
from cotbal.recipe.mixture import Mixture, Task
from cotbal.recipe.ratios import passes
from cotbal.recipe.runs import final_run
from cotbal.weightings import build_weighting, method_label
from cotbal.weightings.sampling import ratios
from helpers.errors import raises

SIZES = {"large": 1600, "small": 100}


@pytest.mark.parametrize(("exponent", "expected"), [("0", 1), ("0.5", 4), ("0.25", 2), ("1", 16)])
def test_tasks_are_shown_in_proportion_to_a_power_of_their_records(
    exponent: str, expected: float
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


def task(name: str, group: str | None = None, balanced: bool = True) -> Task:
    path = Path(f"{name}.jsonl")
    return Task(name, path, path, {}, "exact_match", (), group=group, balanced=balanced)


def test_a_group_counts_as_one_task_and_others_keep_the_ratio_1() -> None:
    mixture = Mixture((task("a", "g"), task("b", "g"), task("c"), task("chat", balanced=False)))
    sizes = {name: {"full": n} for name, n in (("a", 100), ("b", 300), ("c", 100), ("chat", 7))}
    run = with_sampling(mixture, sizes, final_run(mixture, "sampling:0"))
    assert run.ratios is not None
    expected = {"a": 0.4, "b": 0.4, "c": 1.6, "chat": 1.0}
    assert run.ratios == pytest.approx(expected)
    plain = final_run(mixture, "ew")
    assert with_sampling(mixture, sizes, plain) is plain
