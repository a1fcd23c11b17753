from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from balance_cases import right_or_wrong, with_samples

from cotbal.balance import balance
from cotbal.balance.uncertainty import cluster_sums, interval, resample_scores
from cotbal.scores import ScoreMatrix

LEVELS = {"a": [0.2, 0.7, 0.4], "b": [0.3, 0.4, 0.8]}


def matrix(samples: int = 200, seed: int = 0, common: float = 1.0) -> ScoreMatrix:
    return with_samples(
        {task: right_or_wrong(levels, samples, seed + i, common) for i, (task, levels) in enumerate(LEVELS.items())}
    )


def widths(found: ScoreMatrix, resamples: int = 600) -> np.ndarray:
    """Widths of the intervals of the two contributions between different tasks."""
    result = balance(found, resamples=resamples)
    assert result.intervals is not None
    bounds = result.intervals["contribution"]
    return np.array([np.ptp(bounds[0, 1]), np.ptp(bounds[1, 0])])


def test_resampled_scores_scatter_around_the_scores() -> None:
    found = matrix(400)
    resampled = resample_scores(found, 3000, 0)
    assert resampled.shape == (3000, 3, 2)
    np.testing.assert_allclose(resampled.mean(axis=0), found.values, atol=0.003)
    p = found.values
    np.testing.assert_allclose(resampled.std(axis=0), np.sqrt(p * (1 - p) / 400), rtol=0.08)


def test_intervals_cover_the_truth() -> None:
    """95 % intervals of contributions, over many small experiments whose true contributions are known."""
    covered: list[bool] = []
    for seed in range(200):
        result = balance(matrix(150, seed=10 * seed, common=0.5), resamples=150)
        if result.flags or result.intervals is None:
            continue
        for giver, receiver, truth in ((0, 1, (0.4 - 0.3) / 0.5), (1, 0, (0.4 - 0.2) / 0.5)):
            low, high = result.intervals["contribution"][giver, receiver]
            covered.append(bool(low <= truth <= high))
    assert len(covered) > 350
    assert 0.90 <= np.mean(covered) <= 0.99


def test_runs_are_resampled_together() -> None:
    """What is common to the runs cancels: pairs that were torn apart give wider intervals at the same scores."""
    paired = matrix()
    generator = np.random.default_rng(1)
    torn = {task: generator.permuted(s.values, axis=1) for task, s in paired.samples.items()}
    unpaired = with_samples(torn)
    np.testing.assert_allclose(unpaired.values, paired.values)
    assert (widths(unpaired) > 1.2 * widths(paired)).all()


def test_answers_on_one_picture_count_once() -> None:
    """Four equal answers on each picture carry the information of one."""
    one = matrix(100)
    four = {task: np.repeat(s.values, 4, axis=1) for task, s in one.samples.items()}
    alone = with_samples(four)
    together = with_samples(four, clusters=dict.fromkeys(LEVELS, np.arange(400) // 4))
    np.testing.assert_allclose(widths(together) / widths(alone), [2, 2], rtol=0.25)
    np.testing.assert_allclose(widths(together), widths(one), rtol=1e-6)


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, again, other = (resample_scores(matrix(), 50, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_order_of_the_columns_does_not_matter() -> None:
    found = matrix()
    swapped = replace(
        found, tasks=found.tasks[::-1], values=found.values[:, ::-1], samples=dict(reversed(found.samples.items()))
    )
    np.testing.assert_array_equal(resample_scores(swapped, 50, 0), resample_scores(found, 50, 0)[..., ::-1])


def test_tasks_are_drawn_independently() -> None:
    same = right_or_wrong(LEVELS["a"], 200, 0)
    resampled = resample_scores(with_samples({"a": same, "b": same}), 800, 0)
    assert abs(np.corrcoef(resampled[:, 0, 0], resampled[:, 0, 1])[0, 1]) < 0.15


def test_a_resample_of_a_constant_is_that_constant() -> None:
    resampled = resample_scores(with_samples({"a": np.full((2, 30), 0.25)}), 40, 0)
    np.testing.assert_allclose(resampled, 0.25)


def test_cluster_sums() -> None:
    values = np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0]])
    sums, sizes = cluster_sums(values, np.array([0, 2, 0, 2]))
    np.testing.assert_array_equal(sums, [[4, 6], [0, 2]])
    np.testing.assert_array_equal(sizes, [2, 2])


@pytest.mark.filterwarnings("error")
def test_interval() -> None:
    values = np.stack([np.arange(1001.0), np.full(1001, np.nan), np.zeros(1001)], axis=1)
    np.testing.assert_allclose(interval(values), [[25, 975], [np.nan, np.nan], [0, 0]])
