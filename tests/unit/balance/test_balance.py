"""The whole of Section 3: `balance(matrix)`."""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cotbal.balance import Balance, Settings, balance
from cotbal.errors import ScoresError
from cotbal.scores.interval import SAMPLING_ONLY, significance
from cotbal.scores.matrix import ScoreMatrix
from helpers.balance_cases import (
    healthy,
    plain_parts,
    replicated_minis,
    right_or_wrong,
    table,
    with_samples,
)
from helpers.errors import names_all, raises

TEMPERATURES = st.floats(0.2, 10)


def sampled(seed: int = 0) -> ScoreMatrix:
    levels = {"a": [0.2, 0.7, 0.3, 0.4], "b": [0.3, 0.4, 0.8, 0.35], "c": [0.1, 0.2, 0.15, 0.6]}
    return with_samples(
        {task: right_or_wrong(row, 200, seed + i) for i, (task, row) in enumerate(levels.items())}
    )


def shuffled(matrix: ScoreMatrix, columns: list[int], rows: list[int]) -> ScoreMatrix:
    """The same matrix with its tasks and runs in another order."""
    samples = {
        matrix.tasks[j]: replace(s, values=s.values[rows])
        for j in columns
        if (s := matrix.samples.get(matrix.tasks[j])) is not None
    }
    return ScoreMatrix(
        tuple(matrix.runs[i] for i in rows),
        tuple(matrix.tasks[j] for j in columns),
        matrix.values[np.ix_(rows, columns)],
        samples,
    )


@given(healthy(), TEMPERATURES)
def test_equals_loops(rows: list[list[float]], temperature: float) -> None:
    result = balance(table(rows), settings=Settings(temperature=temperature))
    assert not result.flags
    for part, weights in plain_parts(rows, temperature).items():
        np.testing.assert_allclose(result.parts[part], weights, rtol=1e-7, atol=1e-9, err_msg=part)
    assert list(result.weights.values()) == result.parts["all"].tolist()


@given(healthy(), TEMPERATURES)
def test_weights_are_positive_with_mean_one(rows: list[list[float]], temperature: float) -> None:
    weights = np.array(
        list(balance(table(rows), settings=Settings(temperature=temperature)).weights.values())
    )
    assert (weights > 0).all()
    assert weights.mean() == pytest.approx(1)


@given(healthy(), st.floats(0.01, 100), st.integers(0, 5))
def test_the_scale_of_a_metric_does_not_matter(
    rows: list[list[float]], factor: float, task: int
) -> None:
    scaled = np.array(rows)
    scaled[:, task % len(rows[0])] *= factor
    expected = balance(table(rows)).weights
    assert balance(table(scaled.tolist())).weights == pytest.approx(expected, rel=1e-6)


@given(healthy(least=3), st.randoms(use_true_random=False))
def test_the_order_of_tasks_and_runs_does_not_matter(
    rows: list[list[float]], random: object
) -> None:
    matrix, tasks = table(rows), list(range(len(rows[0])))
    runs = list(range(len(rows)))
    random.shuffle(tasks)  # type: ignore[attr-defined]
    random.shuffle(runs)  # type: ignore[attr-defined]
    expected = balance(matrix).weights
    assert balance(shuffled(matrix, tasks, runs)).weights == pytest.approx(expected, rel=1e-12)


def test_the_order_does_not_matter_for_intervals_either() -> None:
    matrix = sampled()
    one, other = (
        balance(matrix, settings=Settings(bootstrap=200)),
        balance(shuffled(matrix, [2, 0, 1], [1, 3, 0, 2]), settings=Settings(bootstrap=200)),
    )
    assert one.part_intervals is not None
    assert one.intervals is not None
    for unit in one.units:
        first, second = one.weight(unit), other.weight(unit)
        assert astuple(first)[:3] == pytest.approx(astuple(second)[:3], rel=1e-9)


def test_alike_tasks_have_equal_weights() -> None:
    rows = [[0.2] * 4, *(np.full(4, 0.3) + 0.4 * np.eye(4)[i] for i in range(4))]
    result = balance(table([list(row) for row in rows]))
    for weights in result.parts.values():
        np.testing.assert_allclose(weights, np.ones(4))


def test_the_helpful_the_unhelped_and_the_hard_weigh_more() -> None:
    rows = [[0.4, 0.4, 0.4], [0.8, 0.6, 0.6], [0.4, 0.8, 0.4], [0.4, 0.4, 0.8]]
    helpful = balance(table(rows))
    assert helpful.outward.argmax() == helpful.parts["outward"].argmax() == 0
    assert helpful.parts["inward"].argmax() == 0  # nobody helps a
    harder = balance(table([[0.2, 0.4], [0.8, 0.4 + 0.2 * 0.5], [0.2 + 0.6 * 0.5, 0.6]]))
    assert harder.difficulty.tolist() == pytest.approx([0.75, 1 / 3])
    assert harder.weights["a"] > 1 > harder.weights["b"]


def test_other_rows_are_ignored() -> None:
    rows = [[0.2, 0.4], [0.6, 0.5], [0.3, 0.8]]
    matrix = table(rows)
    more = ScoreMatrix(
        ("base", *matrix.runs, "solo:a"),
        matrix.tasks,
        np.vstack([[0, 0], matrix.values, [0.9, 0.1]]),
        {},
    )
    assert balance(more).weights == balance(matrix).weights


def test_a_missing_row_is_named() -> None:
    matrix = ScoreMatrix(("mini", "full:a"), ("a", "b"), np.array([[0.2, 0.4], [0.6, 0.5]]))
    with raises(ScoresError, "missing-row", "missing full:b"):
        balance(matrix)


def test_groups_share_one_weight() -> None:
    values = np.array([[0.1, 10.0, 0.2], [0.3, 30.0, 0.3], [0.2, 15.0, 0.6]])
    matrix = ScoreMatrix(("mini", "full:ab", "full:c"), ("a", "b", "c"), values)
    result = balance(matrix, {"a": "ab", "b": "ab"})
    assert result.units == ("ab", "c")
    np.testing.assert_allclose(result.contribution, [[1, 0.25], [0.375, 1]])
    assert sum(result.weights.values()) == pytest.approx(2)


def test_a_flagged_task_leaves_its_group_to_the_others() -> None:
    values = np.array([[0.1, 10.0, 0.2], [0.3, 10.0, 0.3], [0.2, 15.0, 0.6]])
    matrix = ScoreMatrix(("mini", "full:ab", "full:c"), ("a", "b", "c"), values)
    result = balance(matrix, {"a": "ab", "b": "ab"})
    assert [(flag.task, flag.kind) for flag in result.flags] == [("b", "no_gain")]
    np.testing.assert_allclose(result.contribution, [[1, 0.25], [0.5, 1]])


def test_one_unit_has_weight_one_and_a_warning() -> None:
    result = balance(table([[0.2], [0.6]]))
    assert result.weights == {"a": 1.0}
    assert names_all(result.warnings[0], "a", 1)
    assert not balance(table([[0.2, 0.4], [0.6, 0.5], [0.3, 0.8]])).warnings[0].startswith("a ")


@pytest.mark.parametrize("temperature", [0, 0.0, -0.5, float("nan"), float("inf"), "automatic"])
def test_a_temperature_that_is_not_positive_is_rejected(temperature: Any) -> None:
    """Eq. 5, 7 and 10 divide by it: a negative one would reverse the order of the weights."""
    with pytest.raises(ValidationError, match="temperature"):
        Settings(temperature=temperature)


def test_a_changed_copy_is_validated() -> None:
    assert Settings(seed=3).changed(temperature="auto") == Settings(seed=3, temperature="auto")
    with pytest.raises(ValidationError, match="weight_range"):
        Settings().changed(weight_range=(1.5, 2.0))


def test_temperature_auto_keeps_weights_in_range() -> None:
    rows = [[0.05, 0.6, 0.3], [0.9, 0.7, 0.4], [0.06, 0.9, 0.3], [0.1, 0.65, 0.8]]
    result = balance(table(rows), settings=Settings(temperature="auto", weight_range=(0.8, 1.3)))
    weights = np.array(list(result.weights.values()))
    assert weights.min() >= 0.8
    assert weights.max() <= 1.3
    assert weights.min() == pytest.approx(0.8) or weights.max() == pytest.approx(1.3)
    sharper = balance(
        table(rows), settings=Settings(temperature=0.99 * result.temperature)
    ).weights.values()
    assert min(sharper) < 0.8 or max(sharper) > 1.3


def test_a_gain_that_is_nearly_nothing_is_flagged_and_the_range_holds() -> None:
    """A gain of 1e-7 would make contributions of a million."""
    rows = [[0.2, 0.4, 0.1], [0.7, 0.8, 0.2], [0.3, 0.4 + 1e-7, 0.1], [0.4, 0.4, 0.6]]
    result = balance(table(rows), settings=Settings(temperature="auto", weight_range=(0.5, 2.0)))
    assert [(flag.task, flag.kind) for flag in result.flags] == [("b", "unclear_gain")]
    assert np.isnan(result.contribution[:, 1]).all()
    weights = np.array(list(result.weights.values()))
    assert weights.min() >= 0.5 - 1e-9
    assert weights.max() <= 2.0


def test_a_table_that_no_temperature_brings_into_the_range_is_rejected() -> None:
    """One task harms another by ten million times the gain of its own data."""
    rows = [[0.5, 0.5, 0.5], [0.6, -1e6, 0.5], [0.5, 0.6, 0.5], [0.5, 0.5, 0.6]]
    with raises(ScoresError, "invalid-scores", "10000", "0.9", "1.1"):
        balance(table(rows), settings=Settings(temperature="auto", weight_range=(0.9, 1.1)))


def test_resamples_and_seed_are_what_intervals_depend_on() -> None:
    first, again, other = (
        balance(sampled(), settings=Settings(bootstrap=150, seed=seed)) for seed in (1, 1, 2)
    )
    assert first.to_json() == again.to_json()
    assert first.weights == other.weights
    assert first.weight("a").low != other.weight("a").low


def test_intervals_hold_the_point_estimate() -> None:
    result = balance(sampled(), settings=Settings(bootstrap=400))
    assert result.intervals is not None
    assert result.part_intervals is not None
    for name, bounds in result.intervals.items():
        values = getattr(result, name)
        assert (bounds[..., 0] <= values).all(), name
        assert (values <= bounds[..., 1]).all(), name
    for name, bounds in result.part_intervals.items():
        assert (bounds[..., 0] <= result.parts[name]).all(), name
        assert (result.parts[name] <= bounds[..., 1]).all(), name


def test_more_samples_give_narrower_intervals() -> None:
    few, many = (
        sampled(),
        with_samples({t: np.tile(s.values, 9) for t, s in sampled().samples.items()}),
    )
    widths = [
        balance(m, settings=Settings(bootstrap=400)).weight("a").half_width for m in (few, many)
    ]
    assert widths[1] == pytest.approx(widths[0] / 3, rel=0.2)


def test_sentences() -> None:
    result = balance(replicated_minis(sampled()), settings=Settings(bootstrap=200))
    for unit in result.units:
        weight = result.weight(unit)
        assert result.verdict(unit) == significance(weight.low > 1 or weight.high < 1, "1")
        numbers = f"{result.weights[unit]:.3f} [{weight.low:.3f}, {weight.high:.3f}]"
        assert result.sentence(unit) == f"{unit}: {numbers}, {result.verdict(unit)}"
    noise = with_samples(
        {task: right_or_wrong([0.4, 0.5, 0.5], 12, i, 0.0) for i, task in enumerate("ab")}
    )
    noise = replicated_minis(noise, noise=0.2)
    result = balance(noise, settings=Settings(bootstrap=200, equal_below=0))
    assert result.verdict("a") == significance(False, "1")


def test_without_the_noise_of_training_nothing_is_significant() -> None:
    result = balance(sampled(), settings=Settings(bootstrap=200))
    assert result.noise == ("samples",)
    assert any(result.weight(unit).excludes(1) for unit in result.units)
    assert {result.verdict(unit) for unit in result.units} == {SAMPLING_ONLY}


def test_a_bare_table_has_no_intervals_to_speak_of() -> None:
    result = balance(table([[0.2, 0.4], [0.6, 0.5], [0.3, 0.8]]))
    assert not result.has_intervals
    assert not result.weight("a").has_bounds
    assert not result.weight("a").excludes(1)
    assert result.sentence("a").startswith(f"a: {result.weights['a']:.3f},")
    assert "[" not in result.sentence("a")


def test_json_holds_everything_in_plain_numbers() -> None:
    result = balance(sampled(), settings=Settings(bootstrap=150))
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert content["weights"] == pytest.approx(result.weights)
    assert (
        set(content["parts"])
        == set(content["part_intervals"])
        == {"outward", "inward", "inter", "intra", "all"}
    )
    assert set(content["intervals"]) == {"contribution", "outward", "inward", "difficulty"}
    assert np.array(content["intervals"]["contribution"]).shape == (3, 3, 2)
    assert content["samples"] == {"a": 200, "b": 200, "c": 200}
    assert content["sentences"] == [result.sentence(unit) for unit in result.units]
    weight = result.weight("b")
    assert content["weight_intervals"]["b"] == pytest.approx([weight.low, weight.high])
    assert Balance.from_json(content).to_json() == content
    bare = json.loads(
        json.dumps(balance(table([[0.2, 0.4], [0.6, 0.5], [0.3, 0.8]])).to_json(), allow_nan=False)
    )
    assert bare["intervals"] is None
    assert bare["weight_intervals"] == {"a": None, "b": None}
