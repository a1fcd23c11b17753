"""How many records of every task an epoch shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.errors import CotbalError
from cotbal.recipe.ratios import allotted, mean_one, passes
from helpers.errors import raises

positive = st.floats(0.01, 100)
mixtures = st.lists(st.tuples(positive, st.integers(1, 5000)), min_size=1, max_size=40)


def columns(pairs: list[tuple[float, int]]) -> tuple[dict[str, float], dict[str, int]]:
    ratios = {f"task {i}": ratio for i, (ratio, _) in enumerate(pairs)}
    return ratios, {f"task {i}": size for i, (_, size) in enumerate(pairs)}


@given(mixtures)
def test_an_epoch_has_as_many_records_as_without_ratios(pairs: list[tuple[float, int]]) -> None:
    ratios, sizes = columns(pairs)
    counts = allotted(ratios, sizes)
    assert sum(counts.values()) == sum(sizes.values())
    assert min(counts.values()) >= 1
    assert list(counts) == list(sizes)


@given(mixtures)
def test_counts_are_rounded_passes(pairs: list[tuple[float, int]]) -> None:
    ratios, sizes = columns(pairs)
    counts, times = allotted(ratios, sizes), passes(ratios, sizes)
    exact = {task: times[task] * size for task, size in sizes.items()}
    if min(exact.values()) >= 1:  # no task is raised to one record at the cost of others
        for task, count in counts.items():
            assert abs(count - exact[task]) < 1 + 1e-6


@given(mixtures, st.floats(0.001, 1000))
def test_only_proportions_matter(pairs: list[tuple[float, int]], factor: float) -> None:
    ratios, sizes = columns(pairs)
    scaled = {task: ratio * factor for task, ratio in ratios.items()}
    times = passes(scaled, sizes)
    assert times == pytest.approx(passes(ratios, sizes))
    equal = dict.fromkeys(sizes, factor)
    assert allotted(equal, sizes) == sizes


def test_a_larger_share_takes_records_of_the_others() -> None:
    counts = allotted({"ocr": 1.5, "vqa": 0.5}, {"ocr": 100, "vqa": 100})
    assert counts == {"ocr": 150, "vqa": 50}
    assert passes({"ocr": 2.0, "vqa": 1.0}, {"ocr": 100, "vqa": 300}) == pytest.approx(
        {"ocr": 1.6, "vqa": 0.8}
    )


def test_the_largest_remainder_is_rounded_up() -> None:
    """Of 20 records, 9.26 and 10.74 are exact."""
    assert allotted({"ocr": 1.0, "vqa": 1.16}, {"ocr": 10, "vqa": 10}) == {"ocr": 9, "vqa": 11}


def test_tasks_that_are_not_trained_do_not_count() -> None:
    assert allotted({"ocr": 3.0, "vqa": 1.0, "chat": 9.0}, {"ocr": 8, "vqa": 8}) == {
        "ocr": 12,
        "vqa": 4,
    }


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=6))
def test_scaled_weights_have_mean_one(pairs: list[tuple[float, float]]) -> None:
    weights = {str(i): weight for i, (weight, _) in enumerate(pairs)}
    fractions = {str(i): fraction for i, (_, fraction) in enumerate(pairs)}
    scaled = mean_one(weights, fractions)
    assert sum(scaled[t] * fractions[t] for t in scaled) == pytest.approx(sum(fractions.values()))
    assert all(scaled[t] / scaled["0"] == pytest.approx(weights[t] / weights["0"]) for t in scaled)


def test_answers_without_tokens_have_no_scale() -> None:
    with raises(CotbalError, "no-valid-tokens", "ocr", "vqa"):
        mean_one({"ocr": 0.5, "vqa": 1.5}, {"ocr": 0.0, "vqa": 0.0})
