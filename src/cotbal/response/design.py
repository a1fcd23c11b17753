"""Which weights to try: balanced two-level designs, each trial with its mirror image.

The rows of a Hadamard matrix (Plackett and Burman 1946) define for every trial which weights are
raised and which are lowered by a step. A trial and its mirror image have the same seed:

- half their difference is free of the level of the seed, of the curvature and of every product of
  two weights, so it measures the slopes;
- half their sum, compared with trials with equal weights, measures the curvature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from jaxtyping import Int

from cotbal.errors import CotbalError
from cotbal.response.coordinates import directions, undetermined, weights_at
from cotbal.response.departure import joint_departure
from cotbal.response.hadamard import hadamard, smallest_order
from cotbal.response.lever import Lever
from cotbal.response.response import UPPER
from cotbal.response.shapes import Features, PerTask, TrialTask
from cotbal.response.student import t_quantile

MOST_TASKS = 40
MOST_RUNS = 10_000  # each trains a model
EQUAL_RUNS = 2  # trials with equal weights
POWER = 0.8  # probability to find an effect of the smallest detectable size
Signs = Int[np.ndarray, "*trial task"]


@dataclass(frozen=True)
class Design:
    """Trials that measure a response.

    Attributes:
        tasks: names, in the order of the columns.
        signs: 1 where a weight is raised, -1 where it is lowered, all 0 with equal weights.
        seeds: training seed of every trial.
        step: doublings by which a weight is raised or lowered.
    """

    tasks: tuple[str, ...]
    signs: Signs
    seeds: tuple[int, ...]
    step: float

    @property
    def weights(self) -> TrialTask:
        """Weights of every trial, mean 1."""
        z = self.signs * self.step
        return np.stack([weights_at(row) for row in z])

    @property
    def rounded_weights(self) -> TrialTask:
        """The weights as files hold them, with four decimals."""
        return self.weights.round(4)

    @property
    def freedom(self) -> int:
        """Residual degrees of freedom of a fit with curvature."""
        trials = len(self.signs)
        seeds = len(set(self.seeds))
        coefficients = np.linalg.matrix_rank(self._features())
        return trials - seeds - int(coefficients)

    @property
    def aliased(self) -> tuple[str, ...]:
        """Tasks whose slope these trials do not determine; empty with enough runs."""
        lost = undetermined(self._slope_features())
        return tuple(task for task, rest in zip(self.tasks, lost, strict=True) if rest > 1e-6)

    @property
    def aliasing(self) -> str:
        """What the design cannot separate, in one or two sentences."""
        known = (
            "Slopes are free of the curvature and of all products of two weights; these products"
            " are aliased with each other and are not estimated."
        )
        if not self.aliased:
            return known
        runs = len(self.signs)
        names = ", ".join(self.aliased)
        pairs = len(self.tasks) - 1
        needed = 2 * pairs + EQUAL_RUNS
        return f"{runs} runs do not separate the slopes of {names}: plan at least {needed}. {known}"

    def described(self, lever: Lever) -> str:
        """Number of trials, design and seeds in words."""
        runs = len(self.seeds)
        names = ", ".join(map(str, dict.fromkeys(self.seeds)))
        return (
            f"{runs} trials: {(runs - EQUAL_RUNS) // 2} pairs with {lever.several} up and down by"
            f" {self.step:g} doublings, {EQUAL_RUNS} with equal {lever.several}; seeds {names}"
        )

    def standard_errors(self) -> PerTask:
        """Standard error of each task's slope per step, in units of the noise of one run; NaN where
        the slope is aliased.
        """
        basis = directions(len(self.tasks))
        slopes = self._slope_features() / self.step
        information = slopes.T @ slopes
        covariance = basis @ np.linalg.pinv(information) @ basis.T
        errors = np.sqrt(np.diag(covariance))
        aliased = self.aliased
        for i, task in enumerate(self.tasks):
            if task in aliased:
                errors[i] = np.nan
        return errors

    def detectable(self, noise: float) -> PerTask:
        """Smallest slope per doubling that a 95 % interval excludes from 0 with probability 0.8,
        Eq. R11, in the unit of `noise`, the standard deviation of one run; NaN without residual
        degrees of freedom.
        """
        if self.freedom < 1:
            return np.full(len(self.tasks), np.nan)
        outside = t_quantile(UPPER, self.freedom)
        power = t_quantile(POWER, self.freedom)
        per_step = (outside + power) * noise * self.standard_errors()
        return per_step / self.step

    def _features(self) -> Features:
        """Coordinates and departure of every trial, without the mean of its seed."""
        means = self.signs.mean(axis=1, keepdims=True)
        z = (self.signs - means) * self.step
        coordinates = z @ directions(len(self.tasks))
        features = np.column_stack([coordinates, joint_departure(z)])
        seeds = np.array(self.seeds)
        for seed in set(self.seeds):
            same = seeds == seed
            features[same] -= features[same].mean(axis=0)
        return features

    def _slope_features(self) -> Features:
        """The features without the departure, the last column."""
        return self._features()[:, :-1]


def two_level_design(
    tasks: Sequence[str],
    runs: int | None = None,
    step: float = 0.75,
    seeds: Sequence[int] = (0, 1),
) -> Design:
    """A balanced design of mirrored pairs and two trials with equal weights.

    Trials in which all weights are up (or down) equal the one with equal weights and are left out.

    Args:
        tasks: names of 2 to 40 tasks.
        runs: an even number of trials. The default is twice the smallest multiple of 4 above the
            number of tasks: 8 for 2 or 3 tasks, 16 for 4 to 7, 24 for 8 to 11, 88 for 40. With
            fewer than `2 T` runs, effects are aliased.
        step: doublings by which weights are raised and lowered, positive.
        seeds: training seeds, used by the pairs in turn.

    Raises:
        CotbalError: `invalid-design`.
    """
    count = len(tasks)
    if not 2 <= count <= MOST_TASKS or len(set(tasks)) < count:
        raise CotbalError(
            f"expected 2 to {MOST_TASKS} different tasks; found {count}", "invalid-design"
        )
    chosen = 2 * smallest_order(count + 1) if runs is None else runs
    fits = EQUAL_RUNS + 2 <= chosen <= MOST_RUNS
    if chosen % 2 or not fits or not step > 0 or not seeds:
        raise CotbalError(
            f"expected an even number of {EQUAL_RUNS + 2} to {MOST_RUNS:,} runs, a positive step"
            f" and a seed; found {chosen} runs, step {step:g}, {len(seeds)} seeds",
            "invalid-design",
        )
    signs, of_trial = [], []
    pairs = (chosen - EQUAL_RUNS) // 2
    for row, seed in zip(_rows(count, pairs), cycle(seeds), strict=False):
        signs += [row, -row]
        of_trial += [seed, seed]
    equal = np.zeros(count, dtype=int)
    for _, seed in zip(range(EQUAL_RUNS), cycle(seeds), strict=False):
        signs.append(equal)
        of_trial.append(seed)
    return Design(
        tasks=tuple(tasks),
        signs=np.array(signs),
        seeds=tuple(of_trial),
        step=step,
    )


def _rows(tasks: int, pairs: int) -> Signs:
    """One row of every mirrored pair: all candidates as often as possible, then those that add the
    most information.
    """
    candidates = _candidates(tasks, smallest_order(tasks + 1))
    if pairs < len(candidates):
        candidates = _candidates(tasks, smallest_order(tasks))
    whole, rest = divmod(pairs, len(candidates))
    rows = [*np.tile(candidates, (whole, 1))]
    basis = directions(tasks)
    information = 1e-6 * np.eye(tasks - 1)
    for row in rows:
        coordinates = row @ basis
        information += np.outer(coordinates, coordinates)
    waiting = [*candidates]
    for _ in range(rest):
        inverse = np.linalg.inv(information)
        points = [row @ basis for row in waiting]
        gains = [point @ inverse @ point for point in points]
        best = int(np.argmax(gains))
        row = waiting.pop(best)
        rows.append(row)
        point = points[best]
        information += np.outer(point, point)
    return np.array(rows)


def _candidates(tasks: int, order: int) -> Signs:
    """Rows of a Hadamard matrix with one column per task, without those that are all up or down and
    without mirror images of others.
    """
    matrix = hadamard(order)
    columns = matrix
    if tasks < order:
        columns = matrix[:, 1 : tasks + 1]
    kept: list[Signs] = []
    known: set[tuple[int, ...]] = set()
    for row in columns:
        key = tuple(row.tolist())
        all_alike = abs(row.sum()) == tasks
        if key not in known and not all_alike:
            kept.append(row)
            mirror = tuple((-row).tolist())
            known |= {key, mirror}
    return np.array(kept)
