from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cotbal.balance import Settings, balance
from cotbal.balance.probes import read_probes
from cotbal.balance.uncertainty import cluster_sums, resample_scores, seed_moves
from cotbal.scores.interval import Noise, percentile_bounds
from cotbal.scores.matrix import Measured, Samples, ScoreMatrix, mean_matrix
from helpers.balance_cases import replicated_minis, right_or_wrong, with_samples

LEVELS = {"a": [0.2, 0.7, 0.4], "b": [0.3, 0.4, 0.8]}


def matrix(samples: int = 200, seed: int = 0, common: float = 1.0) -> ScoreMatrix:
    return with_samples(
        {
            task: right_or_wrong(levels, samples, seed + i, common)
            for i, (task, levels) in enumerate(LEVELS.items())
        }
    )


def widths(scores: ScoreMatrix, resamples: int = 600) -> np.ndarray:
    """Widths of the intervals of the two contributions between different tasks."""
    result = balance(scores, settings=Settings(bootstrap=resamples))
    assert result.intervals is not None
    bounds = result.intervals["contribution"]
    return np.array([np.ptp(bounds[0, 1]), np.ptp(bounds[1, 0])])


def test_resampled_scores_scatter_around_the_scores() -> None:
    scores = matrix(400)
    resampled = resample_scores([scores], 3000, 0)
    assert resampled.shape == (3000, 3, 2)
    np.testing.assert_allclose(resampled.mean(axis=0), scores.values, atol=0.003)
    p = scores.values
    np.testing.assert_allclose(resampled.std(axis=0), np.sqrt(p * (1 - p) / 400), rtol=0.08)


@pytest.mark.extended
def test_intervals_cover_the_truth() -> None:
    """95 % intervals of contributions, over many small experiments whose true contributions are
    known.
    """
    covered: list[bool] = []
    for seed in range(200):
        result = balance(matrix(150, seed=10 * seed, common=0.5), settings=Settings(bootstrap=150))
        if result.flags or result.intervals is None:
            continue
        for giver, receiver, truth in ((0, 1, (0.4 - 0.3) / 0.5), (1, 0, (0.4 - 0.2) / 0.5)):
            low, high = result.intervals["contribution"][giver, receiver]
            covered.append(bool(low <= truth <= high))
    assert len(covered) > 350
    assert 0.90 <= np.mean(covered) <= 0.99


def test_runs_are_resampled_together() -> None:
    """What is common to the runs cancels: pairs that were torn apart give wider intervals at the
    same scores.
    """
    paired = matrix()
    generator = np.random.default_rng(1)
    torn = {task: generator.permuted(s.values, axis=1) for task, s in paired.samples.items()}
    unpaired = with_samples(torn)
    np.testing.assert_allclose(unpaired.values, paired.values)
    assert (widths(unpaired) > 1.2 * widths(paired)).all()


def test_answers_on_one_image_count_once() -> None:
    """Four equal answers on each image carry the information of one."""
    one = matrix(100)
    four = {task: np.repeat(s.values, 4, axis=1) for task, s in one.samples.items()}
    alone = with_samples(four)
    together = with_samples(four, clusters=dict.fromkeys(LEVELS, np.arange(400) // 4))
    np.testing.assert_allclose(widths(together) / widths(alone), [2, 2], rtol=0.25)
    np.testing.assert_allclose(widths(together), widths(one), rtol=1e-6)


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, again, other = (resample_scores([matrix()], 50, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_order_of_the_columns_does_not_matter() -> None:
    scores = matrix()
    swapped = replace(
        scores,
        tasks=scores.tasks[::-1],
        values=scores.values[:, ::-1],
        samples=dict(reversed(scores.samples.items())),
    )
    np.testing.assert_array_equal(
        resample_scores([swapped], 50, 0), resample_scores([scores], 50, 0)[..., ::-1]
    )


def test_tasks_are_drawn_independently() -> None:
    same = right_or_wrong(LEVELS["a"], 200, 0)
    resampled = resample_scores([with_samples({"a": same, "b": same})], 800, 0)
    assert abs(np.corrcoef(resampled[:, 0, 0], resampled[:, 0, 1])[0, 1]) < 0.15


def test_a_resample_of_a_constant_is_that_constant() -> None:
    resampled = resample_scores([with_samples({"a": np.full((2, 30), 0.25)})], 40, 0)
    np.testing.assert_allclose(resampled, 0.25)


def test_cluster_sums() -> None:
    values = np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0]])
    sums, sizes = cluster_sums(values, np.array([0, 2, 0, 2]))
    np.testing.assert_array_equal(sums, [[4, 6], [0, 2]])
    np.testing.assert_array_equal(sizes, [2, 2])


class TestSeeds:
    """The noise of training seeds joins that of the samples."""

    def tables(self, seeds: int, noise: float, first: int = 0) -> list[ScoreMatrix]:
        """Bare tables of two tasks whose cells move by normal noise from seed to seed."""
        rows = np.array([[0.2, 0.3], [0.7, 0.4], [0.4, 0.8]])
        generator = np.random.default_rng(first)
        runs = ("mini", "full:a", "full:b")
        return [
            ScoreMatrix(runs, ("a", "b"), rows + noise * generator.standard_normal((3, 2)))
            for _ in range(seeds)
        ]

    @pytest.mark.parametrize("seeds", [2, 3, 8])
    def test_moves_are_student_s_t(self, seeds: int) -> None:
        """The 95 % interval of a mean is that of the t-interval; quantiles of t from a table of the
        distribution.
        """
        quantile = {2: 12.706, 3: 4.303, 8: 2.365}[seeds]
        values = np.random.default_rng(seeds).standard_normal(seeds)
        moves = seed_moves(seeds, 60_000, np.random.default_rng(1))
        np.testing.assert_allclose(moves.sum(axis=1), 0, atol=1e-9 * np.abs(moves).max())
        half = quantile * values.std(ddof=1) / np.sqrt(seeds)
        low, high = percentile_bounds(moves @ values)
        assert high == pytest.approx(half, rel=0.1)
        assert low == pytest.approx(-half, rel=0.1)

    def test_intervals_over_seeds_cover_the_truth(self) -> None:
        covered = []
        for first in range(300):
            drawn = resample_scores(self.tables(4, 0.03, first), 400, 0)
            low, high = percentile_bounds(drawn[:, 1, 0])
            covered.append(bool(low <= 0.7 <= high))
        assert 0.92 <= np.mean(covered) <= 0.98

    def test_one_draw_moves_all_cells_together(self) -> None:
        """Noise that is common to two runs cancels in their difference."""
        common = [
            replace(m, values=self.tables(1, 0)[0].values + k * 0.05)
            for k, m in enumerate(self.tables(3, 0))
        ]
        drawn = resample_scores(common, 500, 0)
        assert drawn[:, 0, 0].std() > 0.02
        np.testing.assert_allclose(drawn[:, 1, 0] - drawn[:, 0, 0], 0.5)

    def test_both_sources_add(self) -> None:
        probes = read_probes(replicated_minis(matrix(200, 0)))

        def spread(*sources: Noise) -> float:
            draws = probes.resample(4000, 0, sources)
            assert draws is not None
            return float(draws(0, [1]).std())

        assert spread() == pytest.approx(0, abs=1e-12)
        both = np.hypot(spread("samples"), spread("training"))
        assert spread("samples", "training") == pytest.approx(both, rel=0.1)

    def test_weights_from_several_bare_tables_have_intervals(self) -> None:
        result = balance(self.tables(3, 0.01))
        assert result.seeds == 3
        assert result.part_intervals is not None
        assert "noise of training" in result.warnings[0]
        np.testing.assert_allclose(
            result.contribution, balance(mean_matrix(self.tables(3, 0.01))).contribution
        )


class TestWeightedMeans:
    """A metric that weighs its samples, such as F1, reaches the bootstrap as plain means
    (`Measured.linear`).
    """

    def runs(self, n: int = 300) -> tuple[list[Measured], np.ndarray]:
        """Yes-or-no answers of two runs, five questions per image: right or not, and their weights
        in F1.
        """
        random = np.random.default_rng(1)
        truth = random.random(n) < 0.3
        measured = []
        for skill in (0.7, 0.85):
            said = np.where(random.random(n) < skill, truth, ~truth)
            measured.append(
                Measured((said == truth).astype(float), np.where(said == truth, 2.0 * said, 1.0))
            )
        return measured, np.arange(n) // 5

    def test_the_interval_is_that_of_a_bootstrap_of_the_ratio(self) -> None:
        """Each resample recomputes F1; bounds agree within a twentieth of the interval's
        width."""
        runs, clusters = self.runs()
        values = np.stack([run.linear for run in runs])
        table = ScoreMatrix(
            ("a", "b"),
            ("vqa",),
            values.mean(axis=1)[:, None],
            {"vqa": Samples(values, clusters, 1.0)},
        )
        drawn = resample_scores([table], 4000, 0)[..., 0]
        picks = np.random.default_rng(0).integers(0, 60, size=(4000, 60))
        rows = (picks[..., None] * 5 + np.arange(5)).reshape(4000, -1)
        ratio = np.stack(
            [(e.values * e.weights)[rows].sum(1) / e.weights[rows].sum(1) for e in runs], axis=1
        )
        expected = np.array(
            [
                percentile_bounds(ratio[:, 0]),
                percentile_bounds(ratio[:, 1]),
                percentile_bounds(ratio[:, 1] - ratio[:, 0]),
            ]
        )
        seen = np.array(
            [
                percentile_bounds(drawn[:, 0]),
                percentile_bounds(drawn[:, 1]),
                percentile_bounds(drawn[:, 1] - drawn[:, 0]),
            ]
        )
        width = np.ptp(expected, axis=1, keepdims=True)
        assert np.abs(seen - expected).max() < 0.05 * width.max()
        assert width.min() > 0.05

    def test_a_plain_mean_of_the_values_would_have_another_width(self) -> None:
        """So that the test above could fail: accuracy is not F1."""
        runs, _ = self.runs()
        assert runs[0].linear.std() > 1.2 * runs[0].values.std()

    def test_categories_of_fixed_size_make_single_scores_wide_and_differences_not(self) -> None:
        """Means over ten unequal categories, against a bootstrap inside each category; two samples
        an image.
        """
        random = np.random.default_rng(0)
        sizes = np.array([30, 30, 30, 30, 147, 170, 200, 200, 200, 20])
        category = np.repeat(np.arange(10), sizes)
        level = random.uniform(0.6, 0.95, 10)[category]
        luck = random.random((len(category), 2))
        other = np.where(random.random(luck.shape) < 0.8, luck, random.random(luck.shape))
        runs = np.stack(
            [(u < (level + gain)[:, None]).ravel() for u, gain in ((luck, 0), (other, 0.03))]
        ).astype(float)
        weights = np.repeat(1 / sizes[category], 2)
        values = np.stack([Measured(run, weights).linear for run in runs])
        samples = Samples(values, np.arange(len(weights)) // 2, 1.0)
        table = ScoreMatrix(("a", "b"), ("mme",), values.mean(axis=1)[:, None], {"mme": samples})
        drawn = resample_scores([table], 2000, 0)[..., 0]
        images = runs.reshape(2, -1, 2).mean(axis=2)
        inside = np.zeros((2000, 2))
        for name, size in enumerate(sizes):
            picks = random.integers(0, size, size=(2000, size))
            inside += images[:, category == name][:, picks].mean(axis=2).T / 10
        single = drawn.std(axis=0) / inside.std(axis=0)
        pair = np.diff(drawn, axis=1).std() / np.diff(inside, axis=1).std()
        assert np.all((single > 1) & (single < 1.3))
        assert pair == pytest.approx(1, abs=0.06)
