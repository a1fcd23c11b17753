"""How well the fit predicts trials that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cotbal.response.regression import Regression, Shrunk
from cotbal.response.shapes import PerScore, TrialScore, TrialTask

MOST_FOLDS = 40
MIRRORED = 0.01  # doublings by which rounded weights may miss being mirror images


@dataclass(frozen=True)
class Check:
    """Errors of predictions of left-out trials, in % of the score, by task; the noise of the
    left-out run is in them.

    Attributes:
        error: root mean square error.
        baseline: the same if weights had no effect.
        folds: how often some trials were left out.
        pairs: whether these were a trial and its mirror image.
    """

    error: PerScore
    baseline: PerScore
    folds: int
    pairs: bool

    @property
    def explained(self) -> PerScore:
        """Share of the squared error of the baseline that the fit avoids; below 0 where it predicts
        worse than no effect at all.
        """
        return 1 - self.error**2 / np.maximum(self.baseline**2, np.finfo(float).tiny)


def held_out(regression: Regression, shrunk: Sequence[Shrunk], z: TrialTask) -> Check:
    """Leave out a trial and its mirror image (or one trial where there is none), fit the others,
    predict the pair; trials with equal weights stay, they hold the level.

    More than 40 groups are left out several at a time. The noise, and how far effects scatter
    before the trials, are those of all trials; everything else is estimated again.
    """
    groups, pairs = _groups(regression, z)
    folds = [np.concatenate(groups[k::MOST_FOLDS]) for k in range(min(MOST_FOLDS, len(groups)))]
    scores = regression.changes.shape[1]
    errors, baselines = np.zeros(scores), np.zeros(scores)
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(z)), fold)
        unexplained = regression.changes.copy()
        for group in shrunk:
            again = regression.rows(rest).shrink(group.members, group)
            unexplained[:, list(group.members)] -= regression.features @ again.mean.T
        errors += _squares(unexplained, regression.blocks, fold, rest)
        baselines += _squares(regression.changes, regression.blocks, fold, rest)
    count = sum(map(len, folds))
    return Check(np.sqrt(errors / count), np.sqrt(baselines / count), len(folds), pairs)


def _squares(
    values: TrialScore,
    blocks: np.ndarray,
    fold: np.ndarray,
    rest: np.ndarray,
) -> PerScore:
    """Squared distances of the left-out trials from the level of their seed in the others."""
    total = np.zeros(values.shape[1])
    for trial in fold:
        same = rest[blocks[rest] == blocks[trial]]
        level = values[same if len(same) else rest].mean(axis=0)
        total += (values[trial] - level) ** 2
    return total


def _groups(regression: Regression, z: TrialTask) -> tuple[list[np.ndarray], bool]:
    """Trials that are left out together, and whether all of them are mirrored pairs."""
    moved = np.abs(z).max(axis=1) > MIRRORED
    waiting = np.flatnonzero(moved).tolist()
    groups = []
    while waiting:
        first = waiting.pop(0)
        same = [i for i in waiting if regression.blocks[i] == regression.blocks[first]]
        mirror = [i for i in same if np.abs(z[i] + z[first]).max() < MIRRORED][:1]
        waiting = [i for i in waiting if i not in mirror]
        groups.append(np.array([first, *mirror]))
    return groups, bool(groups) and all(len(group) == 2 for group in groups)
