from __future__ import annotations

import numpy as np
import pytest

from cotbal.balance import Settings, balance, weight_draws
from cotbal.balance.agreement import agreement, rank_correlation
from cotbal.errors import ScoresError
from cotbal.scores.interval import Interval
from cotbal.scores.matrix import ScoreMatrix
from helpers.balance_cases import replicated_minis, right_or_wrong, table, with_samples
from helpers.errors import raises

LEVELS = {"a": [0.2, 0.7, 0.3, 0.4], "b": [0.3, 0.4, 0.8, 0.35], "c": [0.1, 0.2, 0.15, 0.6]}
FEW = Settings(bootstrap=300)


def sampled(samples: int = 200, seed: int = 0) -> ScoreMatrix:
    return with_samples(
        {t: right_or_wrong(row, samples, seed + i) for i, (t, row) in enumerate(LEVELS.items())}
    )


def test_rank_correlation_by_hand() -> None:
    first = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    second = np.array([[10.0, 20.0, 40.0, 30.0], [2.0, 2.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_allclose(rank_correlation(first, second), [0.8, -1, 0])


def test_draws_begin_with_the_weights_and_scatter_like_their_intervals() -> None:
    result = balance(sampled(), settings=FEW)
    draws = weight_draws(sampled(), settings=FEW).values
    assert draws.shape == (301, 3)
    np.testing.assert_array_equal(draws[0], result.parts["all"])
    assert result.part_intervals is not None
    np.testing.assert_allclose(
        np.percentile(draws[1:], (2.5, 97.5), axis=0).T, result.part_intervals["all"]
    )


def test_the_same_scores_agree_fully() -> None:
    draws = weight_draws(sampled(), settings=FEW)
    result = agreement(draws, draws, ("a", "b", "c"))
    assert result.correlation.value == result.correlation.low == pytest.approx(1)
    assert result.largest == Interval(0, 0, 0, ("samples",))
    assert not any(gap.excludes() for gap in result.differences)


def test_the_same_samples_make_pairs() -> None:
    """Two temperatures move the same weights: their difference is sharper than either."""
    mild, sharp = (
        weight_draws(sampled(), settings=Settings(bootstrap=300, temperature=t))
        for t in (0.5, 0.45)
    )
    result = agreement(mild, sharp, ("a", "b", "c"))
    width = result.differences[0].high - result.differences[0].low
    assert width < 0.3 * np.ptp(np.percentile(mild.values[1:, 0], (2.5, 97.5)))


def test_the_noise_of_other_trainings_does_not_cancel() -> None:
    """The samples are the same and make pairs, the trainings are not."""
    tables = [replicated_minis(sampled(2000), noise=0.05, seed=s) for s in (1, 2)]
    draws = [weight_draws(m, settings=FEW, training_stream=k) for k, m in enumerate(tables)]
    same = weight_draws(tables[0], settings=FEW, training_stream=1)
    apart = agreement(draws[0], same, ("a", "b", "c")).differences[0]
    assert apart.half_width > 1.2 * balance(tables[0], settings=FEW).weight("a").half_width
    assert apart.noise == ("samples", "training")
    bare = weight_draws(sampled(), settings=FEW)
    assert agreement(draws[1], bare, ("a", "b", "c")).correlation.noise == ("samples",)


def test_other_weights_differ() -> None:
    first = weight_draws(sampled(2000), settings=FEW)
    turned = with_samples(
        {
            t: right_or_wrong(row, 2000, i)
            for i, (t, row) in enumerate(
                {
                    "a": [0.6, 0.7, 0.62, 0.61],
                    "b": [0.3, 0.4, 0.8, 0.35],
                    "c": [0.5, 0.52, 0.55, 0.6],
                }.items()
            )
        }
    )
    result = agreement(first, weight_draws(turned, settings=FEW), ("a", "b", "c"))
    assert result.differences[0].excludes()
    assert result.largest.value == max(abs(gap.value) for gap in result.differences)


def test_a_bare_table_has_no_draws() -> None:
    with raises(ScoresError, "no-samples"):
        weight_draws(table([[0.2, 0.4], [0.6, 0.5], [0.3, 0.8]]))
