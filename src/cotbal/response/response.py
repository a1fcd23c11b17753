"""The response of the scores to the weights: predictions with intervals at any weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.response.coordinates import departure, departure_slopes, directions
from cotbal.response.regression import Shrunk
from cotbal.response.shapes import Basis, Coefficients, Covariances, PerScore, PerTask
from cotbal.response.solver import Derivatives
from cotbal.response.student import t_quantile
from cotbal.response.validation import Check
from cotbal.scores.interval import TAIL, Interval

UPPER = 1 - TAIL / 100  # probability below the upper bound of an interval


@dataclass(frozen=True)
class Local:
    """Values, gradients and Hessians, by score, around a place in the basis of directions.

    Attributes:
        change: predicted change.
        variance: squared standard error of it.
    """

    change: Derivatives
    variance: Derivatives


@dataclass(frozen=True)
class Response:
    """What weights do to scores; changes are in % of the score at equal weights.

    Coefficients are the slopes in the basis of directions (`coordinates.directions`), then the
    curvature, if there is one. Intervals hold the noise of training and of the validation samples.

    Attributes:
        tasks: that have a weight.
        scored: that have a score.
        level: score at equal weights.
        trials: number of trials behind it.
        reach: largest doubling of a weight among the trials.
        estimates: coefficients by least squares.
        spread: their covariance for a noise of 1.
        shrunk: coefficients shrunk by empirical Bayes, on which predictions and choices rest: those
            of the measurable scores, then those of the others.
        noise: standard deviation of one run.
        freedom: degrees of freedom behind the noise.
        check: out-of-sample errors.
        unmeasurable: task -> why its scores say nothing at this size.
        reference: sampling ratios that weights of 1 stand for; None for weights of the loss.
        source: SHA-256 of the table of trials.
    """

    tasks: tuple[str, ...]
    scored: tuple[str, ...]
    level: PerScore
    trials: int
    reach: float
    estimates: Coefficients
    spread: Float[np.ndarray, "coefficient coefficient"]
    shrunk: tuple[Shrunk, ...]
    noise: PerScore
    freedom: float
    check: Check
    unmeasurable: Mapping[str, str]
    reference: PerTask | None
    source: str

    @cached_property
    def basis(self) -> Basis:
        """The directions in which ratios of weights change."""
        return directions(len(self.tasks))

    @cached_property
    def mean(self) -> Coefficients:
        """Shrunk coefficients of every score."""
        mean = np.zeros_like(self.estimates)
        for group in self.shrunk:
            mean[list(group.members)] = group.mean
        return mean

    @cached_property
    def covariance(self) -> Covariances:
        """Uncertainty of the shrunk coefficients of every score."""
        return np.stack([self.combination(row)[0] for row in np.eye(len(self.scored))])

    def combination(self, shares: PerScore) -> tuple[Float[np.ndarray, "a b"], float]:
        """Covariance of the shrunk coefficients of a weighted sum of scores, and the degrees of
        freedom behind it (Welch and Satterthwaite).
        """
        total = np.zeros_like(self.spread)
        parts = []
        for group in self.shrunk:
            covariances = group.covariances(shares[list(group.members)])
            for covariance, freedom in zip(covariances, group.freedoms, strict=True):
                total = total + covariance
                parts.append((float(np.trace(covariance @ np.linalg.inv(self.spread))), freedom))
        weight = sum(size for size, _ in parts)
        return total, weight**2 / sum(size**2 / freedom for size, freedom in parts)

    @cached_property
    def freedoms(self) -> tuple[float, ...]:
        """Degrees of freedom behind the shrunk coefficients of every score."""
        return tuple(self.combination(row)[1] for row in np.eye(len(self.scored)))

    @property
    def curved(self) -> bool:
        """Whether there is a curvature."""
        return self.estimates.shape[1] == len(self.tasks)

    @property
    def effects(self) -> Float[np.ndarray, "task score"]:
        """Shrunk effect of doubling each weight, the others unchanged, without the curvature."""
        return self.basis @ self.mean[:, : len(self.tasks) - 1].T

    @property
    def curvature(self) -> PerScore:
        """Change per squared doubling, at most 0: an upward curve says nothing about corners that
        were not tried.
        """
        if not self.curved:
            return np.zeros(len(self.scored))
        return np.minimum(self.mean[:, -1], 0.0)

    @property
    def explained(self) -> float:
        """Share of the squared changes of left-out trials that predictions explain, over measurable
        tasks, each in units of its noise; below 0 where no effect at all would predict better.
        """
        counted = [i for i, name in enumerate(self.scored) if name not in self.unmeasurable]
        error, baseline = (
            ((part[counted] / self.noise[counted]) ** 2).sum()
            for part in (self.check.error, self.check.baseline)
        )
        return float(1 - error / max(baseline, np.finfo(float).tiny))

    @property
    def check_sentence(self) -> str:
        """The out-of-sample error in words."""
        kind = "mirrored pairs" if self.check.pairs else "groups of trials"
        return (
            f"Out of sample: with {self.check.folds} {kind} left out in turn, predictions explain"
            f" {100 * self.explained:.0f} % of the squared changes of single runs, noise included."
        )

    def slope(self, task: str, score: str) -> Interval:
        """Effect of doubling the weight of `task` on `score`, by least squares, 95 % t interval."""
        i, row = self.scored.index(score), self.basis[self.tasks.index(task)]
        size = len(row)
        error = self.noise[i] * np.sqrt(row @ self.spread[:size, :size] @ row)
        return _interval(float(row @ self.estimates[i, :size]), float(error), self.freedom)

    def effect(self, task: str, score: str) -> Interval:
        """The same, shrunk by empirical Bayes."""
        i, row = self.scored.index(score), self.basis[self.tasks.index(task)]
        size = len(row)
        error = np.sqrt(row @ self.covariance[i, :size, :size] @ row)
        return _interval(float(row @ self.mean[i, :size]), float(error), self.freedoms[i])

    def curve(self, score: str) -> Interval:
        """Shrunk change of `score` per squared doubling, as estimated; NaN without a curvature."""
        i = self.scored.index(score)
        if not self.curved:
            return Interval(float("nan"))
        error = np.sqrt(self.covariance[i, -1, -1])
        return _interval(float(self.mean[i, -1]), float(error), self.freedoms[i])

    def changes(self, z: PerTask) -> PerScore:
        """Predicted change of every score at `z` doublings."""
        return z @ self.effects + self.curvature * departure(z)

    def errors(self, z: PerTask) -> PerScore:
        """Standard errors of `changes`: how far the mean over many runs may be from it."""
        x = self._features(z)
        return np.sqrt(np.einsum("i,sij,j->s", x, self.covariance, x))

    def prediction(self, z: PerTask, score: str) -> Interval:
        """Change of one score at `z` doublings, averaged over many runs, 95 % interval."""
        return self.combined(z, np.eye(len(self.scored))[self.scored.index(score)])

    def combined(self, z: PerTask, shares: PerScore) -> Interval:
        """The same for a weighted sum of scores."""
        freedom = self.combination(shares)[1]
        return _interval(float(shares @ self.changes(z)), self.combined_error(z, shares), freedom)

    def combined_error(self, z: PerTask, shares: PerScore) -> float:
        """Standard error of that weighted sum."""
        x = self._features(z)
        return float(np.sqrt(x @ self.combination(shares)[0] @ x))

    def local(self, place: Float[np.ndarray, " direction"]) -> Local:
        """Predicted changes of all scores and their variances, with derivatives, at a place in the
        basis of directions.
        """
        size, basis = len(place), self.basis
        first, second = departure_slopes(basis @ place)
        first, second = basis.T @ first, basis.T @ second @ basis
        bend = self.curvature
        change = (
            self.mean[:, :size] @ place + bend * departure(basis @ place),
            self.mean[:, :size] + bend[:, None] * first,
            bend[:, None, None] * second,
        )
        # The gradient of the features is the identity, and below it that of the departure.
        x = self._features(basis @ place)
        products = self.covariance @ x
        slope, curve = 2 * products[:, :size], 2 * self.covariance[:, :size, :size]
        if self.curved:
            mixed = 2 * self.covariance[:, :size, -1:] * first
            curve = curve + mixed + mixed.transpose(0, 2, 1)
            slope = slope + 2 * products[:, -1:] * first
            curve = curve + 2 * self.covariance[:, -1:, -1:] * np.outer(first, first)
            curve = curve + 2 * products[:, -1, None, None] * second
        return Local(change, (products @ x, slope, curve))

    def _features(self, z: PerTask) -> Float[np.ndarray, " coefficient"]:
        place = z @ self.basis
        return np.append(place, departure(z)) if self.curved else place

    def to_json(self) -> dict[str, Any]:
        """Every estimate with its interval, noise and out-of-sample error, by task."""
        slopes, effects = {}, {}
        for task in self.tasks:
            slopes[task] = {score: self.slope(task, score).to_json() for score in self.scored}
            effects[task] = {score: self.effect(task, score).to_json() for score in self.scored}
        check = self.check
        return {
            "tasks": list(self.tasks),
            "scored": list(self.scored),
            "trials": self.trials,
            "level": self._by_score(self.level),
            "slopes": slopes,
            "effects": effects,
            "curvature": {s: self.curve(s).to_json() for s in self.scored if self.curved},
            "noise": self._by_score(self.noise),
            "freedom": self.freedom,
            "out_of_sample": {
                "error": self._by_score(check.error),
                "error_without_effects": self._by_score(check.baseline),
                "explained": self._by_score(check.explained),
                "folds": check.folds,
                "mirrored_pairs": check.pairs,
            },
            "not_measurable": dict(self.unmeasurable),
        }

    def _by_score(self, values: PerScore) -> dict[str, float]:
        return dict(zip(self.scored, values.tolist(), strict=True))


def _interval(value: float, error: float, freedom: float) -> Interval:
    half = t_quantile(UPPER, freedom) * error
    return Interval(value, value - half, value + half)
