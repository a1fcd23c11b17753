"""How well the fit predicts trials that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cotbal.response.regression import Regression, Shrunk
from cotbal.response.shapes import Blocks, PerScore, TrialIndices, TrialScore, TrialTask

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
        tiny = np.finfo(float).tiny
        baseline = np.maximum(self.baseline**2, tiny)
        return 1 - self.error**2 / baseline


def held_out(regression: Regression, shrunk: Sequence[Shrunk], z: TrialTask) -> Check:
    """Leave out a trial and its mirror image (or one trial where there is none), fit the others,
    predict the pair; trials with equal weights stay, they hold the level.

    More than 40 groups are left out several at a time. The noise, and how far effects scatter
    before the trials, are those of all trials; everything else is estimated again.
    """
    groups = _groups(regression, z)
    folds = _folds(groups)
    scores = regression.changes.shape[1]
    errors = np.zeros(scores)
    baselines = np.zeros(scores)
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(z)), fold)
        unexplained = _unexplained(regression, shrunk, rest)
        errors += _squares(unexplained, regression.blocks, fold, rest)
        baselines += _squares(regression.changes, regression.blocks, fold, rest)
    count = sum(map(len, folds))
    return Check(
        error=np.sqrt(errors / count),
        baseline=np.sqrt(baselines / count),
        folds=len(folds),
        pairs=bool(groups) and all(len(group) == 2 for group in groups),
    )


def _unexplained(
    regression: Regression, shrunk: Sequence[Shrunk], rest: TrialIndices
) -> TrialScore:
    """All scores without what a fit of the trials in `rest` predicts."""
    unexplained = regression.changes.copy()
    smaller = regression.rows(rest)
    for group in shrunk:
        members = list(group.members)
        refitted = smaller.shrink(members, group)
        unexplained[:, members] -= regression.features @ refitted.mean.T
    return unexplained


def _squares(
    values: TrialScore,
    blocks: Blocks,
    fold: TrialIndices,
    rest: TrialIndices,
) -> PerScore:
    """Squared distances of the left-out trials from the level of their seed in the others."""
    total = np.zeros(values.shape[1])
    for trial in fold:
        same_seed = rest[blocks[rest] == blocks[trial]]
        if not len(same_seed):
            same_seed = rest
        level = values[same_seed].mean(axis=0)
        total += (values[trial] - level) ** 2
    return total


def _groups(regression: Regression, z: TrialTask) -> list[TrialIndices]:
    """Trials that are left out together: mirrored pairs, and trials without a mirror image."""
    moved = np.abs(z).max(axis=1) > MIRRORED
    waiting = np.flatnonzero(moved).tolist()
    groups = []
    while waiting:
        group = [waiting.pop(0)]
        for other in waiting:
            if _are_mirrored(regression.blocks, z, group[0], other):
                group.append(other)
                waiting.remove(other)
                break
        groups.append(np.array(group))
    return groups


def _are_mirrored(blocks: Blocks, z: TrialTask, one: int, other: int) -> bool:
    """Whether two trials of one seed are mirror images."""
    if blocks[one] != blocks[other]:
        return False
    rest = z[one] + z[other]
    return bool(np.abs(rest).max() < MIRRORED)


def _folds(groups: Sequence[TrialIndices]) -> list[TrialIndices]:
    """The groups, some of them together where they are many."""
    count = min(MOST_FOLDS, len(groups))
    return [np.concatenate(groups[k::MOST_FOLDS]) for k in range(count)]
