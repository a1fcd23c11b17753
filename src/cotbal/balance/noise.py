"""The noise of training: how far a score moves with another training seed.

Runs that were trained more than once show it: the mini probe and its replicates, or whole sets of
probes. On `pocket` it is twice the sampling error and much the same in every cell of the score
matrix (docs/intervals.md), so the spread of the cheapest runs stands for all. Few replicates give a
poor standard deviation; variances of different tasks are therefore moderated, each pulled toward
their common value as far as the tasks do not differ by more than chance (Smyth 2004).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

PRIOR_FREEDOM = 8.0  # decided by simulation, see docs/intervals.md
TYPICAL_NOISE = 0.045  # of the scale of a task: that of `pocket`, where nothing better is known
SMALLEST_SHARE = 1e-3  # of the scale of a task: a score that repeats exactly still has this noise


@dataclass(frozen=True)
class TrainingNoise:
    """How far the score of a single training scatters.

    Attributes:
        deviation: standard deviation between training seeds, in the units of the score.
        freedom: degrees of freedom behind it.
    """

    deviation: Float[np.ndarray, " task"]
    freedom: Float[np.ndarray, " task"]

    def draw(
        self, runs: Sequence[str], tasks: Sequence[str], resamples: int, seed: Sequence[int]
    ) -> Float[np.ndarray, "resample run task"]:
        """Errors of one training per cell: Student's t, independent in all cells.

        The uncertainty of the standard deviation is one for all runs of a task. Draws are seeded by
        name, so that the order of rows and columns does not matter.
        """
        errors = np.empty((resamples, len(runs), len(tasks)))
        for j, task in enumerate(tasks):
            chance = _generator(seed, task).chisquare(self.freedom[j], resamples)
            scale = self.deviation[j] * np.sqrt(self.freedom[j] / chance)
            for i, run in enumerate(runs):
                errors[:, i, j] = scale * _generator(seed, task, run).standard_normal(resamples)
        return errors


def _generator(seed: Sequence[int], *names: str) -> np.random.Generator:
    return np.random.default_rng([*seed, *(zlib.crc32(name.encode()) for name in names)])


def training_noise(
    spreads: Sequence[Float[np.ndarray, "_ task"]], scale: Float[np.ndarray, " task"]
) -> TrainingNoise | None:
    """The noise of training from runs that were trained more than once.

    Args:
        spreads: the scores of all trainings of one run, for every such run; NaN where it did not
            answer a task.
        scale: of the scores of each task (the maximum of its metric), so that tasks compare.

    Returns:
        None where no run was trained more than once.
    """
    squares, freedom = np.zeros(len(scale)), np.zeros(len(scale))
    for scores in spreads:
        answered = ~np.isnan(scores[0])
        centred = scores[:, answered] - scores[:, answered].mean(axis=0)
        squares[answered] += (centred**2).sum(axis=0)
        freedom[answered] += len(scores) - 1
    if not freedom.any():
        return None
    squares /= scale**2
    # The common variance counts like PRIOR_FREEDOM trainings more of every task.
    common = max(float(squares.sum() / freedom.sum()), SMALLEST_SHARE**2)
    variance = (squares + PRIOR_FREEDOM * common) / (freedom + PRIOR_FREEDOM)
    return TrainingNoise(np.sqrt(variance) * scale, freedom + PRIOR_FREEDOM)


def typical_noise(
    scale: Float[np.ndarray, " task"], freedom: Float[np.ndarray, " task"]
) -> TrainingNoise:
    """The noise of `pocket`, as if it had been measured with so many degrees of freedom; a guess
    for plans, never for intervals.
    """
    return TrainingNoise(TYPICAL_NOISE * scale, freedom + PRIOR_FREEDOM)
