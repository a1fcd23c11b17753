"""Intervals: a bootstrap over validation samples (Efron 1979), paired over runs, joined with the
noise of seeds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from cotbal.scores.matrix import Samples, ScoreMatrix

# Task, rows of the score matrix -> their scores in every resample. The matrices of all resamples
# would take memory in proportion to the square of the tasks.
Draws = Callable[[int, Sequence[int]], Float[np.ndarray, "resample row"]]


def resample_scores(
    matrices: Sequence[ScoreMatrix],
    resamples: int,
    seed: int,
) -> Float[np.ndarray, "resample run task"]:
    """Score matrices, averaged over seeds, as other samples and other seeds could have given them.

    Args:
        matrices: one per training seed, with the same runs, tasks and samples.
        resamples: how many to draw.
        seed: of the draws.
    """
    of_seeds = [_draw_matrix(matrix, resamples, seed) for matrix in matrices]
    center = np.mean(of_seeds, axis=0)
    seeds = len(matrices)
    if seeds == 1:
        return center
    generator = np.random.default_rng([seed, zlib.crc32(b"seeds")])
    moves = seed_moves(seeds, resamples, generator)
    # The scores as measured: their spread over seeds already holds the sampling error of each seed.
    measured = np.stack([matrix.values for matrix in matrices])
    return center + np.einsum("rs,sij->rij", moves, measured)


def seed_moves(
    seeds: int, resamples: int, generator: np.random.Generator
) -> Float[np.ndarray, "resample seed"]:
    """Coefficients `m` such that `mean + sum_s m_s P_s` is a draw of the mean over all possible
    seeds, Eq. N5.

    For normal noise of independent seeds that is Student's t with `seeds - 1` degrees of freedom
    around the mean, as in the t-interval, so few seeds give wide intervals. One draw moves
    all cells of the score matrix together.
    """
    freedom = seeds - 1
    normal = generator.standard_normal((resamples, seeds))
    chance = generator.chisquare(freedom, size=(resamples, 1))
    spread = np.sqrt(freedom / chance)
    centred = normal - normal.mean(axis=1, keepdims=True)
    return spread * centred / np.sqrt(seeds * freedom)


def _draw_matrix(
    matrix: ScoreMatrix, resamples: int, seed: int
) -> Float[np.ndarray, "resample run task"]:
    rows = range(len(matrix.runs))
    columns = []
    for task in range(len(matrix.tasks)):
        column = draw_samples(matrix, task, rows, resamples, seed)
        columns.append(column)
    return np.stack(columns, axis=-1)


def draw_samples(
    matrix: ScoreMatrix, task: int, rows: Sequence[int], resamples: int, seed: int
) -> Float[np.ndarray, "resample row"]:
    """Scores of a task as other validation samples could have given them; the scores themselves
    where the samples are not known.

    Every run answered the same samples, so one draw serves all runs: what they have in common
    cancels in differences.

    Samples of one cluster (one image) are drawn together. Tasks are drawn independently of each
    other.
    """
    chosen = list(rows)
    if not matrix.samples:
        return np.broadcast_to(matrix.values[chosen, task], (resamples, len(chosen)))
    # Seeded by name, so that the order of the columns does not matter, nor the training seed.
    samples = matrix.samples[matrix.tasks[task]]
    name = samples.drawn_with or matrix.tasks[task]
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return _resample_means(samples, chosen, resamples, generator)


def _resample_means(
    samples: Samples, rows: list[int], resamples: int, generator: np.random.Generator
) -> Float[np.ndarray, "resample row"]:
    sums, sizes = cluster_sums(samples.values[rows], samples.clusters)
    clusters = len(sizes)
    chances = np.full(clusters, 1 / clusters)
    draws = generator.multinomial(clusters, chances, size=resamples)
    total = draws @ sums.T
    count = draws @ sizes
    return total / count[:, None]


def cluster_sums(values: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the values `[run, cluster]` and number of samples `[cluster]` of every cluster."""
    sizes = np.bincount(clusters)
    sums = np.stack([np.bincount(clusters, weights=row) for row in values])
    present = sizes > 0
    return sums[:, present], sizes[present]
