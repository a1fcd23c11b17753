"""Intervals: a bootstrap over validation samples (Efron 1979), paired over runs, joined with the
noise of seeds.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from cotbal.scores.matrix import Samples, ScoreMatrix

CONFIDENCE = 0.95


def resample_scores(
    matrices: Sequence[ScoreMatrix],
    resamples: int,
    seed: int,
    sources: Sequence[str] = ("samples", "seeds"),
) -> Float[np.ndarray, "resample run task"]:
    """Score matrices, averaged over seeds, as they could have come out with other samples and other
    seeds.

    Args:
        matrices: one a training seed, the same runs, tasks and samples in each.
        resamples: how many to draw.
        seed: of the draws.
        sources: which noise to draw; without its source, a quantity stays at what was seen.
    """
    drawn = [_draw_samples(matrix, resamples, seed, "samples" in sources) for matrix in matrices]
    center = np.mean(drawn, axis=0)
    if len(matrices) == 1 or "seeds" not in sources:
        return center
    moves = seed_moves(
        len(matrices), resamples, np.random.default_rng([seed, zlib.crc32(b"seeds")])
    )
    # The seeds as they were seen: what a seed's own luck with the samples adds is in their spread
    # already.
    seen = np.stack([matrix.values for matrix in matrices])
    return center + np.einsum("rs,sij->rij", moves, seen)


def seed_moves(
    seeds: int, resamples: int, generator: np.random.Generator
) -> Float[np.ndarray, "resample seed"]:
    """Coefficients `m` so that `mean + sum_s m_s P_s` is a draw of where the mean over all seeds
    may lie.

    For normal noise of independent seeds that is Student's t with `seeds - 1` degrees of freedom
    around the mean, as in the t-interval: few seeds give honestly wide intervals. One draw moves
    all cells of the score matrix together.
    """
    normal = generator.standard_normal((resamples, seeds))
    spread = np.sqrt((seeds - 1) / generator.chisquare(seeds - 1, size=(resamples, 1)))
    return spread * (normal - normal.mean(axis=1, keepdims=True)) / np.sqrt(seeds * (seeds - 1))


def _draw_samples(
    matrix: ScoreMatrix, resamples: int, seed: int, noisy: bool
) -> Float[np.ndarray, "resample run task"]:
    """Every run answered the same samples, so one draw serves all runs: what is common to them
    cancels in differences.

    Samples of one cluster (one picture) are drawn together. Tasks are drawn independently of each
    other.
    """
    if not matrix.samples or not noisy:
        return np.broadcast_to(matrix.values, (resamples, *matrix.values.shape))
    columns = []
    for task in matrix.tasks:
        # Seeded by name, so that the order of the columns does not matter, nor the training seed.
        name = matrix.samples[task].drawn_with or task
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        columns.append(_resample_means(matrix.samples[task], resamples, generator))
    return np.stack(columns, axis=-1)


def _resample_means(
    samples: Samples, resamples: int, generator: np.random.Generator
) -> Float[np.ndarray, "resample run"]:
    sums, sizes = cluster_sums(samples.values, samples.clusters)
    draws = generator.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=resamples)
    return (draws @ sums.T) / (draws @ sizes)[:, None]


def cluster_sums(values: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the values `[run, cluster]` and number of samples `[cluster]` of every cluster."""
    sizes = np.bincount(clusters)
    sums = np.stack([np.bincount(clusters, weights=row) for row in values])
    return sums[:, sizes > 0], sizes[sizes > 0]


def interval(resampled: Float[np.ndarray, "resample *shape"]) -> Float[np.ndarray, "*shape 2"]:
    """Percentile interval (95 %) over the first axis; NaN where the quantity is not identified.

    A draw that is NaN, such as a ratio whose denominator is not positive in it, could be anything
    and so lies beyond both ends; with more than 2.5 % of such draws there is no interval.
    """
    tail = 100 * (1 - CONFIDENCE) / 2
    low = _bound(resampled, tail, -np.inf, "higher")
    high = _bound(resampled, 100 - tail, np.inf, "lower")
    bounds = np.stack([low, high], axis=-1)
    return np.where(np.isfinite(bounds).all(axis=-1, keepdims=True), bounds, np.nan)


def _bound(
    resampled: Float[np.ndarray, "resample *shape"],
    percent: float,
    beyond: float,
    inward: Literal["higher", "lower"],
) -> Float[np.ndarray, "*shape"]:
    """A percentile; where draws are missing, the one next to it, as nothing lies between a number
    and infinity.
    """
    missing = np.isnan(resampled)
    plain = np.percentile(np.where(missing, 0.0, resampled), percent, axis=0)
    filled = np.where(missing, beyond, resampled)
    beside = np.percentile(filled, percent, axis=0, method=inward)
    return np.where(missing.any(axis=0), beside, plain)
