"""Which weights to try: balanced two-level designs, each trial with its mirror image.

The rows of a Hadamard matrix (Plackett and Burman 1946) say for every trial which weights are up
and which are down by a step. Half the difference of a trial and its mirror image, trained with the
same seed, is free of the level of the seed, of the curvature and of every product of two weights;
half their sum, against trials with equal weights, is the curvature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from cotbal.errors import CotbalError
from cotbal.response.coordinates import departure, directions, weights_at
from cotbal.response.hadamard import hadamard, smallest_order
from cotbal.response.response import UPPER
from cotbal.response.shapes import Features, PerTask, TrialTask
from cotbal.response.student import t_quantile

MOST_TASKS = 40
EQUAL_RUNS = 2  # trials with equal weights
POWER = 0.8  # probability to find an effect of the smallest detectable size


@dataclass(frozen=True)
class Design:
    """Trials that measure a response.

    Attributes:
        tasks: names, in the order of the columns.
        signs: 1 where a weight is up, -1 where it is down, all 0 with equal weights.
        seeds: training seed of every trial.
        step: doublings between an equal weight and one that is up.
    """

    tasks: tuple[str, ...]
    signs: Int[np.ndarray, "trial task"]
    seeds: tuple[int, ...]
    step: float

    @property
    def weights(self) -> TrialTask:
        """Weights of every trial, mean 1."""
        return np.stack([weights_at(row * self.step) for row in self.signs])

    @property
    def freedom(self) -> int:
        """Residual degrees of freedom of a fit with curvature."""
        features = self._features()
        return len(features) - len(set(self.seeds)) - int(np.linalg.matrix_rank(features))

    @property
    def aliased(self) -> tuple[str, ...]:
        """Tasks whose slope these trials do not determine; empty with enough runs."""
        basis = directions(len(self.tasks))
        slopes = self._features()[:, : basis.shape[1]]
        lost = np.linalg.norm(basis - basis @ (np.linalg.pinv(slopes) @ slopes), axis=1)
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
        return (
            f"{len(self.signs)} runs do not separate the slopes of {', '.join(self.aliased)}: plan"
            f" at least {2 * (len(self.tasks) - 1) + EQUAL_RUNS}. {known}"
        )

    def standard_errors(self) -> PerTask:
        """Standard error of each task's slope per step, in units of the noise of one run; NaN where
        the slope is aliased.
        """
        basis = directions(len(self.tasks))
        slopes = self._features()[:, : basis.shape[1]] / self.step
        covariance = basis @ np.linalg.pinv(slopes.T @ slopes) @ basis.T
        errors = np.sqrt(np.diag(covariance))
        errors[[task in self.aliased for task in self.tasks]] = np.nan
        return errors

    def detectable(self, noise: float) -> PerTask:
        """Smallest slope per doubling that a 95 % interval excludes from 0 with probability 0.8, in
        the unit of `noise`, the standard deviation of one run; NaN where nothing can be said.
        """
        if self.freedom < 1:
            return np.full(len(self.tasks), np.nan)
        quantiles = t_quantile(UPPER, self.freedom) + t_quantile(POWER, self.freedom)
        return quantiles * noise * self.standard_errors() / self.step

    def _features(self) -> Features:
        z = (self.signs - self.signs.mean(axis=1, keepdims=True)) * self.step
        features = np.column_stack([z @ directions(len(self.tasks)), departure(z)])
        seeds = np.array(self.seeds)
        for seed in set(self.seeds):
            features[seeds == seed] -= features[seeds == seed].mean(axis=0)
        return features


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
        runs: an even number of trials; twice the order of a Hadamard matrix with a column per task
            by default: 16 for up to 7 tasks, 24 for 11, 32 for 15, 40 for 19, 88 for 40. With
            fewer than `2 T` runs, effects are aliased.
        step: doublings up and down, positive.
        seeds: training seeds, which take pairs in turn.

    Raises:
        CotbalError: `invalid-design`.
    """
    count = len(tasks)
    if not 2 <= count <= MOST_TASKS or len(set(tasks)) < count:
        raise CotbalError(
            f"expected 2 to {MOST_TASKS} different tasks; found {count}", "invalid-design"
        )
    chosen = 2 * smallest_order(count + 1) if runs is None else runs
    if chosen % 2 or chosen < EQUAL_RUNS + 2 or not step > 0 or not seeds:
        raise CotbalError(
            f"expected an even number of at least {EQUAL_RUNS + 2} runs, a positive step and a"
            f" seed; found {chosen} runs, step {step:g}, {len(seeds)} seeds",
            "invalid-design",
        )
    rows = _rows(count, (chosen - EQUAL_RUNS) // 2)
    signs, of_seed = [], []
    for i, row in enumerate(rows):
        signs += [row, -row]
        of_seed += [seeds[i % len(seeds)]] * 2
    for i in range(EQUAL_RUNS):
        signs.append(np.zeros(count, dtype=int))
        of_seed.append(seeds[i % len(seeds)])
    return Design(tuple(tasks), np.array(signs), tuple(of_seed), step)


def _rows(tasks: int, pairs: int) -> Int[np.ndarray, "pair task"]:
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
        information += np.outer(row @ basis, row @ basis)
    waiting = [*candidates]
    for _ in range(rest):
        inverse = np.linalg.inv(information)
        gains = [(row @ basis) @ inverse @ (row @ basis) for row in waiting]
        row = waiting.pop(int(np.argmax(gains)))
        information += np.outer(row @ basis, row @ basis)
        rows.append(row)
    return np.array(rows)


def _candidates(tasks: int, order: int) -> Int[np.ndarray, "row task"]:
    """Rows of a Hadamard matrix with one column per task, without those that are all up or down and
    without mirror images of others.
    """
    matrix = hadamard(order)
    columns = matrix[:, 1 : tasks + 1] if tasks < order else matrix
    kept: list[Int[np.ndarray, " task"]] = []
    for row in columns:
        known = any(np.array_equal(row, other) for r in kept for other in (r, -r))
        if not known and abs(row.sum()) < tasks:
            kept.append(row)
    return np.array(kept)
