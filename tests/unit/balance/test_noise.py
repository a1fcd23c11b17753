"""The noise of training, from runs that were trained more than once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from cotbal.balance import Settings, balance
from cotbal.balance.noise import PRIOR_FREEDOM, training_noise
from cotbal.balance.probes import base_name, read_probes, replicate_name
from cotbal.errors import ScoresError
from cotbal.scores.matrix import ScoreMatrix
from helpers.balance_cases import replicated_minis, right_or_wrong, table, with_samples
from helpers.errors import raises

NAN = float("nan")
ROWS = [[0.2, 0.4], [0.7, 0.5], [0.3, 0.8]]


def sampled(samples: int = 300) -> ScoreMatrix:
    levels = {"a": [0.2, 0.7, 0.3], "b": [0.3, 0.4, 0.8]}
    return with_samples(
        {t: right_or_wrong(row, samples, i) for i, (t, row) in enumerate(levels.items())}
    )


def test_names_of_replicates() -> None:
    assert replicate_name("mini", 1) == base_name("mini") == "mini"
    assert replicate_name("full:a", 3) == "full:a#3"
    assert base_name("full:a#3") == "full:a"
    assert base_name("full:a#b") == "full:a#b", "a task may be called so"


def test_the_deviation_by_hand() -> None:
    """Two trainings that differ by 0.2 have the variance 0.02; tasks are pulled together on the
    scale of their metrics.
    """
    spread = np.array([[0.3, 10.0], [0.5, 10.0]])
    noise = training_noise([spread, np.array([[0.9, 70.0]])], np.array([1.0, 100.0]))
    assert noise is not None
    common = 0.02 / 2
    expected = np.sqrt((np.array([0.02, 0.0]) + PRIOR_FREEDOM * common) / (1 + PRIOR_FREEDOM))
    np.testing.assert_allclose(noise.deviation, expected * [1, 100])
    np.testing.assert_allclose(noise.freedom, 1 + PRIOR_FREEDOM)


def test_a_cell_without_an_answer_counts_for_nothing() -> None:
    noise = training_noise([np.array([[0.3, NAN], [0.5, NAN]])], np.ones(2))
    assert noise is not None
    np.testing.assert_allclose(noise.freedom, [1 + PRIOR_FREEDOM, PRIOR_FREEDOM])
    assert noise.deviation[1] == pytest.approx(np.sqrt(0.02))


def test_runs_that_were_trained_once_show_nothing() -> None:
    assert training_noise([np.array([[0.3, 0.4]])], np.ones(2)) is None
    assert read_probes(table(ROWS)).known_noise == ()


def test_draws_have_the_deviation_and_do_not_depend_on_the_order() -> None:
    noise = training_noise([np.array([[0.3, 0.5], [0.4, 0.8]])], np.ones(2))
    assert noise is not None

    def draw(index: int, runs: Sequence[str], seed: int = 0) -> np.ndarray:
        return noise.draw(index, "ab"[index], runs, 4000, (0, seed))

    draws = np.stack([draw(0, ("r", "s")), draw(1, ("r", "s"))], axis=-1)
    inflated = noise.freedom / (noise.freedom - 2)  # variance of Student's t
    np.testing.assert_allclose(
        draws.var(axis=0), np.tile(noise.deviation**2 * inflated, (2, 1)), rtol=0.15
    )
    np.testing.assert_array_equal(draw(1, ("s", "r"))[:, ::-1], draws[:, :, 1])
    other = draw(0, ("r", "s"), seed=1)
    assert abs(np.corrcoef(other[:, 0], draws[:, 0, 0])[0, 1]) < 0.1


def test_replicates_are_averaged_and_widen_the_intervals() -> None:
    one, many = sampled(), replicated_minis(sampled(), 3, 0.1)
    plain = balance(one, settings=Settings(bootstrap=400))
    honest = balance(many, settings=Settings(bootstrap=400))
    assert honest.noise == ("samples", "training")
    assert (honest.replicates, honest.seeds) == (3, 1)
    before, after = (result.measure("difficulty")[0].half_width for result in (plain, honest))
    assert after > 1.3 * before
    minis = [row for row in many.runs if base_name(row) == "mini"]
    mean = read_probes(many).scores
    np.testing.assert_allclose(mean.values[0], many.rows(minis).values.mean(axis=0))
    np.testing.assert_allclose(
        mean.samples["a"].values[0], many.rows(minis).samples["a"].values.mean(axis=0)
    )


def test_more_replicates_make_the_baseline_surer() -> None:
    few, many = (read_probes(replicated_minis(sampled(), k, 0.05, 3)) for k in (2, 12))
    assert few.noise is not None
    assert many.noise is not None
    spread = {k: p.draw_training(0, [0], 3000, (0, 0)).std() for k, p in ((2, few), (12, many))}
    np.testing.assert_allclose(
        spread[12] / many.noise.deviation[0],
        spread[2] / few.noise.deviation[0] * np.sqrt(2 / 12),
        rtol=0.1,
    )


def test_a_bare_table_with_replicates_has_intervals_of_training_alone() -> None:
    result = balance(replicated_minis(table(ROWS), 3, 0.02))
    assert result.noise == ("training",)
    assert result.weight("a").holds_training
    assert set(result.training_noise) == {"a", "b"}


def test_the_base_checkpoint_has_no_noise_of_training() -> None:
    runs = (
        "base",
        "solo:a",
        "solo:b",
        "solo-mini:a",
        "solo-mini:a#2",
        "solo-mini:b",
        "solo-mini:b#2",
    )
    values = [[0.1, 0.2], [0.6, 0.3], [0.2, 0.8], [0.3, NAN], [0.36, NAN], [NAN, 0.6], [NAN, 0.5]]
    probes = read_probes(ScoreMatrix(runs, ("a", "b"), np.array(values)))
    draws = probes.draw_training(0, range(len(probes.scores.runs)), 50, (0, 0))
    assert not draws[:, probes.baseline].any()
    assert draws[:, probes.givers].all()
    assert probes.trainings.tolist() == [1, 1, 1, 2, 2]


def test_seeds_and_replicates_come_together() -> None:
    """A second seed and a third training of the mini: every run counts as often as it was
    trained.
    """
    many = [replicated_minis(table(ROWS), 2, 0.02, 1), table(ROWS)]
    probes = read_probes(many)
    assert probes.trainings.tolist() == [3, 2, 2]
    assert balance(many).seeds == 2


def test_tables_of_other_tasks_do_not_fit() -> None:
    with raises(ScoresError, "other-tasks", "a, b", "a, c"):
        read_probes([table(ROWS), table(ROWS, ["a", "c"])])


def test_columns_of_another_seed_may_be_in_another_order() -> None:
    """The same scores, columns and rows turned round: the same weights, by the names of tasks."""
    first = table(ROWS)
    second = ScoreMatrix(first.runs, first.tasks, first.values + 0.01)
    backwards = second.columns(["b", "a"])
    turned = backwards.rows(second.runs[::-1])
    expected = balance([first, second])
    assert balance([first, turned]).weights == pytest.approx(expected.weights)
    samples = sampled()
    assert balance([samples, samples.columns(["b", "a"])]).units == samples.tasks


def test_copies_of_a_table_are_no_other_trainings() -> None:
    first = table(ROWS)
    other = ScoreMatrix(first.runs, first.tasks, first.values + 0.01)
    said = "two tables hold the same scores"
    assert any(said in text for text in balance([first, first]).warnings)
    assert any(said in text for text in balance([first, first.columns(["b", "a"])]).warnings)
    assert not any(said in text for text in balance([first, other]).warnings)
