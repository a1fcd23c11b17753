"""How well the fit predicts trials that it has not seen: Eq. R14."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from cotbal.response.regression import Regression, Shrunk
from cotbal.response.shapes import Blocks, PerScore, TrialIndices, TrialScore, TrialTask

MOST_FOLDS = 40
ROUNDING = 1e-9  # percent points by which equal scores may differ
MIRRORED = 0.01  # doublings by which rounded weights may miss being mirror images


@dataclass(frozen=True)
class Check:
    """Predictions of left-out trials and what was observed, in % of the score, against the level of
    the seed in the other trials; the noise of the left-out run is in the observed change.

    Attributes:
        predicted: one row per left-out trial, one column per score.
        observed: the same.
        folds: how often some trials were left out.
        pairs: whether these were a trial and its mirror image.
    """

    predicted: TrialScore
    observed: TrialScore
    folds: int
    pairs: bool

    @property
    def error(self) -> PerScore:
        """Root mean square error by score."""
        return _root_mean_square(self.observed - self.predicted)

    @property
    def baseline(self) -> PerScore:
        """The same if weights had no effect."""
        return _root_mean_square(self.observed)

    @property
    def explained(self) -> PerScore:
        """Share of the squared error of the baseline that the fit avoids; below 0 where it predicts
        worse than no effect at all; 0 of a score that never changed.
        """
        baseline = np.where(self.changed, self.baseline, 1.0)
        return np.where(self.changed, 1 - (self.error / baseline) ** 2, 0.0)

    @property
    def changed(self) -> Bool[np.ndarray, " score"]:
        """Whether a score differed between trials at all."""
        return self.baseline > ROUNDING


def _root_mean_square(values: TrialScore) -> PerScore:
    return np.sqrt((values**2).mean(axis=0))


def held_out(regression: Regression, shrunk: Sequence[Shrunk], z: TrialTask) -> Check:
    """Leave out a trial and its mirror image (or one trial where there is none), fit the others,
    predict the pair; trials with equal weights stay, they hold the level.

    More than 40 groups are left out several at a time. The noise, how far effects scatter before
    the trials, and the share of the own weight in the curvature are those of all trials; everything
    else is estimated again.
    """
    groups = _groups(regression, z)
    folds = _folds(groups)
    explained = regression.explained
    changes = regression.changes + explained
    predicted, observed = [], []
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(z)), fold)
        fitted = _fitted(regression, shrunk, rest)
        predicted.append(_moved(fitted + explained, regression.blocks, fold, rest))
        observed.append(_moved(changes, regression.blocks, fold, rest))
    return Check(
        predicted=np.concatenate(predicted),
        observed=np.concatenate(observed),
        folds=len(folds),
        pairs=bool(groups) and all(len(group) == 2 for group in groups),
    )


def _fitted(regression: Regression, shrunk: Sequence[Shrunk], rest: TrialIndices) -> TrialScore:
    """Changes of all trials as a fit of those in `rest` predicts them."""
    fitted = np.zeros_like(regression.changes)
    smaller = regression.rows(rest)
    for group in shrunk:
        members = list(group.members)
        refitted = smaller.shrink(members, group)
        fitted[:, members] = regression.features @ refitted.mean.T
    return fitted


def _moved(
    values: TrialScore, blocks: Blocks, fold: TrialIndices, rest: TrialIndices
) -> TrialScore:
    """The left-out trials against the level of their seed in the others."""
    moved = np.empty((len(fold), values.shape[1]))
    for row, trial in zip(moved, fold, strict=True):
        same_seed = rest[blocks[rest] == blocks[trial]]
        if not len(same_seed):
            same_seed = rest
        level = values[same_seed].mean(axis=0)
        row[:] = values[trial] - level
    return moved


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
