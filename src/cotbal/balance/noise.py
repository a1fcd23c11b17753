"""The noise of training: how far a score moves with another training seed. Eq. N1 and N2.

Runs that were trained more than once show it: the mini probe and its replicates, or whole sets of
probes. Whole sets of probes on `pocket` show how to use a few replicates (nine at the size of the
demo, the first five at the size `study`; docs/intervals.md has the figures of all eight):

- The noise of different runs of a seed, and of different tasks of a run, is independent.
- As a share of the task's largest score it is much the same for all tasks. So the few degrees of
  freedom per task are pooled: the common variance counts like `PRIOR_FREEDOM` further ones.
- It differs from cell to cell of the score matrix. Over cells, errors look like Student's t with
  `CELL_FREEDOM` degrees of freedom rather than like the normal distribution.
- Runs on more data scatter more than the mini probe. On the task that they saw in full: 1.6 times
  (demo) and 2.6 times (`study`). On other tasks: 1.2 and 1.7 times. `OWN` and `CROSS`, for runs
  that were trained once, lie between.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

PRIOR_FREEDOM = 8.0
CELL_FREEDOM = 5.0
OWN, CROSS = 2.0, 1.4  # of the noise of the runs that were repeated
TYPICAL_NOISE = 0.07  # of the largest score of a task: the noise of the minis of `pocket`
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
        self, index: int, task: str, runs: Sequence[str], resamples: int, seed: Sequence[int]
    ) -> Float[np.ndarray, "resample run"]:
        """Errors of one training per run on a task, independent in all cells: Student's t with
        `CELL_FREEDOM`, scaled to the deviation of the task, whose uncertainty is one for all runs.

        Draws are seeded by name, so that the order of runs and tasks does not matter.

        Args:
            index: of the task.
        """
        errors = np.empty((resamples, len(runs)))
        unit = np.sqrt((CELL_FREEDOM - 2) / CELL_FREEDOM)  # gives t the variance 1
        freedom = self.freedom[index]
        of_task = _generator(seed, task)
        chance = of_task.chisquare(freedom, resamples)
        deviation = self.deviation[index] * np.sqrt(freedom / chance)
        for i, run in enumerate(runs):
            of_cell = _generator(seed, task, run)
            error = of_cell.standard_t(CELL_FREEDOM, resamples)
            errors[:, i] = deviation * unit * error
        return errors


def _generator(seed: Sequence[int], *names: str) -> np.random.Generator:
    entropy = list(seed)
    for name in names:
        entropy.append(zlib.crc32(name.encode()))
    return np.random.default_rng(entropy)


def training_noise(
    spreads: Sequence[Float[np.ndarray, "_ task"]], scale: Float[np.ndarray, " task"]
) -> TrainingNoise | None:
    """The noise of training from runs that were trained more than once.

    Args:
        spreads: the scores of all trainings of one run, for every such run; NaN where it did not
            answer a task.
        scale: of the scores of each task, so that the noise of different tasks compares.

    Returns:
        None where no run was trained more than once.
    """
    tasks = len(scale)
    squares = np.zeros(tasks)
    freedom = np.zeros(tasks)
    for scores in spreads:
        answered = ~np.isnan(scores[0])
        shown = scores[:, answered]
        centred = shown - shown.mean(axis=0)
        squares[answered] += (centred**2).sum(axis=0)
        freedom[answered] += len(scores) - 1
    if not freedom.any():
        return None
    squares /= scale**2
    # The common variance counts like PRIOR_FREEDOM trainings more of every task.
    mean = float(squares.sum() / freedom.sum())
    common = max(mean, SMALLEST_SHARE**2)
    pooled_freedom = freedom + PRIOR_FREEDOM
    variance = (squares + PRIOR_FREEDOM * common) / pooled_freedom
    deviation = np.sqrt(variance) * scale
    return TrainingNoise(deviation, pooled_freedom)


def typical_noise(
    scale: Float[np.ndarray, " task"], freedom: Float[np.ndarray, " task"]
) -> TrainingNoise:
    """The noise of `pocket`, as if it had been measured with so many degrees of freedom; a guess
    for plans, never for intervals.
    """
    return TrainingNoise(TYPICAL_NOISE * scale, freedom + PRIOR_FREEDOM)
