"""Intervals from the bootstrap over validation samples (Efron 1979), paired over runs."""

from __future__ import annotations

import zlib

import numpy as np
from jaxtyping import Float

from cotbal.scores import Samples, ScoreMatrix

CONFIDENCE = 0.95


def resample_scores(matrix: ScoreMatrix, resamples: int, seed: int) -> Float[np.ndarray, "resample run task"]:
    """Score matrices as they could have come out with other validation samples of the same kind.

    Every run answered the same samples, so one draw serves all runs: what is common to them cancels in differences.
    Samples of one cluster (one picture) are drawn together. Tasks are drawn independently of each other.
    """
    columns = []
    for task in matrix.tasks:
        # Seeded by name, so that the order of the columns does not matter.
        generator = np.random.default_rng([seed, zlib.crc32(task.encode())])
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
    """Percentile interval (95 %) over the first axis; NaN where the quantity is not identified."""
    tail = 100 * (1 - CONFIDENCE) / 2
    missing = np.isnan(resampled).any(axis=0)
    bounds = np.percentile(np.where(missing, 0.0, resampled), [tail, 100 - tail], axis=0)
    return np.where(missing[..., None], np.nan, np.moveaxis(bounds, 0, -1))
