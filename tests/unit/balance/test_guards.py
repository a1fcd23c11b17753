"""A denominator that says nothing is flagged and never turned into a plain number (issue 2, part
7).
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from cotbal.balance import Balance, Settings, balance
from helpers.balance_cases import right_or_wrong, table, with_samples

SAMPLES = 300
HEALTHY = {"a": [0.2, 0.7, 0.3, 0.4], "b": [0.3, 0.4, 0.8, 0.35], "c": [0.1, 0.2, 0.15, 0.6]}


def columns(**changed: list[float]) -> dict[str, np.ndarray]:
    """Samples of three healthy tasks, some of them with other levels (rows mini, full:a, full:b,
    full:c).
    """
    levels = {**HEALTHY, **changed}
    return {
        task: right_or_wrong(row, SAMPLES, seed) for seed, (task, row) in enumerate(levels.items())
    }


def kinds(result: Balance) -> list[tuple[str, str]]:
    return [(flag.task, flag.kind) for flag in result.flags]


def expect_left_out(result: Balance, index: int, intra_too: bool) -> None:
    """The documented rule, for the task at `place`."""
    assert np.isnan(result.contribution[:, index]).all()
    assert np.isnan(result.inward[index])
    assert not np.isnan(np.delete(result.contribution, index, axis=1)).any()
    assert result.parts["inward"][index] == 1
    assert bool(np.isnan(result.difficulty[index])) is intra_too
    assert bool(result.parts["intra"][index] == 1) is intra_too
    for name, weights in result.parts.items():
        assert weights.mean() == pytest.approx(1), name
        assert (weights > 0).all()
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert [row[index] for row in plain["contribution"]] == [None] * len(result.units)
    assert plain["inward"][index] is None
    assert (plain["difficulty"][index] is None) is intra_too


def test_healthy_probes_are_not_flagged() -> None:
    nothing = {task: np.zeros(SAMPLES) for task in columns()}
    result = balance(with_samples(columns(), constant=nothing), settings=Settings(bootstrap=500))
    assert result.flags == ()
    assert result.warnings == ()
    assert not np.isnan(result.contribution).any()


def test_a_task_without_scores_of_a_constant_answer_is_named() -> None:
    """As where a judge gave the scores: the comparison is left out, and that is said."""
    known = {task: np.zeros(SAMPLES) for task in list(columns())[1:]}
    result = balance(with_samples(columns(), constant=known), settings=Settings(bootstrap=500))
    assert result.flags == ()
    (warning,) = result.warnings
    assert warning.startswith(f"{next(iter(columns()))}: ")
    assert "constant answer" in warning


def test_no_gain() -> None:
    same = np.tile(right_or_wrong([0.5], SAMPLES, 9), (4, 1))
    result = balance(with_samples({**columns(), "b": same}), settings=Settings(bootstrap=500))
    assert kinds(result) == [("b", "no_gain")]
    expect_left_out(result, 1, intra_too=False)
    assert result.difficulty[1] == 0


def test_negative_gain() -> None:
    result = balance(
        with_samples(columns(b=[0.6, 0.5, 0.3, 0.5])), settings=Settings(bootstrap=500)
    )
    assert kinds(result) == [("b", "no_gain")]
    expect_left_out(result, 1, intra_too=False)
    assert result.difficulty[1] < 0


def test_a_gain_that_may_be_noise() -> None:
    values = right_or_wrong([0.4, 0.5, 0.44, 0.45], SAMPLES, 4, common=0.0)
    assert values[2].mean() > values[0].mean()
    result = balance(with_samples({**columns(), "b": values}), settings=Settings(bootstrap=500))
    assert kinds(result) == [("b", "unclear_gain")]
    expect_left_out(result, 1, intra_too=False)


def test_every_probe_at_the_top() -> None:
    full_marks = with_samples(columns(b=[0.96, 0.97, 1.0, 0.97]), maximum={"b": 1.0})
    result = balance(full_marks, settings=Settings(bootstrap=500))
    assert ("b", "saturated") in kinds(result)
    expect_left_out(result, 1, intra_too=False)


def test_one_saturated_probe_is_not_flagged() -> None:
    result = balance(
        with_samples(columns(b=[0.3, 0.4, 0.99, 0.98]), maximum={"b": 1.0}),
        settings=Settings(bootstrap=500),
    )
    assert result.flags == ()


def test_the_top_is_that_of_the_metric() -> None:
    values = {**columns(), "b": 5 * right_or_wrong(HEALTHY["b"], SAMPLES, 1)}
    for maximum, saturated in ((10.0, False), (1.5, True)):
        result = balance(
            with_samples(values, maximum={"b": maximum}), settings=Settings(bootstrap=300)
        )
        assert (("b", "saturated") in kinds(result)) is saturated


def test_a_task_that_learnt_only_its_majority_answer() -> None:
    """The prototype's yes/no task: 'received' 0.97 from everyone, since every probe ends at the
    prior.
    """
    truth = np.random.default_rng(5).uniform(size=SAMPLES) < 0.6
    says_yes = truth.astype(float)
    gibberish = np.where(np.arange(SAMPLES) % 3 == 0, says_yes, 0.0)
    values = np.stack([gibberish, says_yes, says_yes, says_yes])
    without = balance(with_samples({**columns(), "b": values}), settings=Settings(bootstrap=500))
    assert without.contribution[0, 1] == pytest.approx(1), (
        "without its constant answer the task looks helped by all"
    )
    result = balance(
        with_samples({**columns(), "b": values}, constant={"b": says_yes}),
        settings=Settings(bootstrap=500),
    )
    assert kinds(result) == [("b", "constant_answer")]
    expect_left_out(result, 1, intra_too=True)
    assert "0.6" in result.flags[0].message


def test_well_above_the_majority_answer_is_no_problem() -> None:
    constant = {task: right_or_wrong([0.15], SAMPLES, 7)[0] for task in HEALTHY}
    assert (
        balance(with_samples(columns(), constant=constant), settings=Settings(bootstrap=300)).flags
        == ()
    )


@pytest.mark.filterwarnings("error")
def test_own_score_of_zero() -> None:
    result = balance(
        with_samples(columns(b=[0.0, 0.0, 0.0, 0.0])), settings=Settings(bootstrap=500)
    )
    assert ("b", "no_score") in kinds(result)
    expect_left_out(result, 1, intra_too=True)


@pytest.mark.filterwarnings("error")
def test_own_score_that_may_be_zero() -> None:
    values = np.zeros((4, SAMPLES))
    values[2, 17] = 1.0
    result = balance(with_samples({**columns(), "b": values}), settings=Settings(bootstrap=500))
    assert ("b", "no_score") in kinds(result)
    expect_left_out(result, 1, intra_too=True)


def test_a_flag_names_both_runs_both_scores_and_their_intervals() -> None:
    result = balance(
        with_samples(columns(b=[0.6, 0.5, 0.3, 0.5])), settings=Settings(bootstrap=500)
    )
    message = result.flags[0].message
    assert message.startswith("b: ")
    interval = r"\[-?\d\.\d{3}, -?\d\.\d{3}\]"
    own_score, mini = result_scores("b")
    assert re.search(rf"`full:b` scored {own_score:.3f} {interval}", message)
    assert re.search(rf"`mini` {mini:.3f} {interval}", message)
    assert re.search(rf"gain -\d\.\d{{3}} {interval}", message)
    assert "weight, 1" in message


def result_scores(task: str) -> tuple[float, float]:
    values = columns(b=[0.6, 0.5, 0.3, 0.5])[task]
    return float(values[2].mean()), float(values[0].mean())


def test_every_task_flagged_means_equal_weights() -> None:
    flat = {
        task: np.tile(right_or_wrong([0.5], SAMPLES, seed), (4, 1))
        for seed, task in enumerate("abc")
    }
    result = balance(with_samples(flat), settings=Settings(bootstrap=300))
    assert {kind for _, kind in kinds(result)} == {"no_gain"}
    np.testing.assert_array_equal(result.parts["inter"], np.ones(3))
    nothing = balance(
        with_samples({task: np.zeros((4, 50)) for task in "abc"}), settings=Settings(bootstrap=300)
    )
    assert nothing.weights == {"a": 1.0, "b": 1.0, "c": 1.0}


class TestBareTable:
    """Without samples only the signs can be judged, and a warning says what is missing."""

    ROWS = ((0.2, 0.3, 0.1), (0.7, 0.4, 0.2), (0.3, 0.8, 0.15), (0.4, 0.35, 0.6))

    def changed(self, row: int, column: int, value: float) -> Balance:
        values = [list(cells) for cells in self.ROWS]
        values[row][column] = value
        return balance(table(values))

    def test_healthy(self) -> None:
        result = balance(table(self.ROWS))
        assert result.flags == ()
        assert len(result.warnings) == 1
        assert "no" in result.warnings[0]
        assert "interval" in result.warnings[0]
        assert result.intervals is None
        assert result.part_intervals is None

    @pytest.mark.parametrize("own_score", [0.3, 0.25, 0.3 + 1e-12])
    def test_no_gain(self, own_score: float) -> None:
        result = self.changed(2, 1, own_score)
        assert kinds(result) == [("b", "no_gain")]
        expect_left_out(result, 1, intra_too=False)
        assert "`full:b`" in result.flags[0].message
        assert "`mini` 0.300" in result.flags[0].message

    @pytest.mark.filterwarnings("error")
    def test_no_score(self) -> None:
        result = self.changed(2, 1, 0.0)
        assert ("b", "no_score") in kinds(result)
        expect_left_out(result, 1, intra_too=True)

    def test_a_small_gain_is_not_flagged(self) -> None:
        result = self.changed(2, 1, 0.31)
        assert result.flags == ()
        assert result.contribution[0, 1] == pytest.approx(10)
