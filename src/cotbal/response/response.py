"""The response of the scores to the weights: predictions with intervals at any weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

import numpy as np

from cotbal.response.coordinates import directions
from cotbal.response.departure import Departure
from cotbal.response.lever import RATIOS, WEIGHTS, Lever
from cotbal.response.regression import Shrunk
from cotbal.response.shapes import (
    Basis,
    Coefficient,
    Coefficients,
    Covariance,
    Covariances,
    PerScore,
    PerTask,
    TaskScore,
)
from cotbal.response.student import t_quantile
from cotbal.response.validation import Check
from cotbal.scores.interval import TAIL, TRAINING, Interval

UPPER = 1 - TAIL / 100  # probability below the upper bound of an interval
# On `pocket` and `pocket --mix skewed`, valued by the fit of trials on all data
# (tests/unit/test_steering_study.py).
SHORT_TRIALS = (
    "On our two benchmarks, weights from trials on 5/32 of the data gain about a fifth of what was"
    " predicted for single tasks, and nothing for the mean, by the fit of trials on all data."
)


@dataclass(frozen=True)
class Response:
    """What weights do to scores, Eq. R2; changes are in % of the score at equal weights.

    Coefficients are the slopes in the basis of directions (`coordinates.directions`), then the
    curvature, if there is one. Intervals hold the noise of training on these validation samples:
    all trials answer the same ones, so what other samples would change is not in any interval.

    Attributes:
        tasks: that have a weight.
        scored: that have a score.
        unit_of_task: scored task -> the task (or group) among `tasks` that holds its weight;
            without those that are only evaluated.
        level: score at equal weights.
        trials: number of trials behind it.
        reach: largest doubling of a weight among the trials.
        departure: from equal weights, by score, which the curvature is multiplied with.
        estimates: coefficients by least squares.
        spread: their covariance for a noise of 1.
        shrunk: coefficients shrunk by empirical Bayes, on which predictions and choices rest: those
            of the measurable scores, then those of the others.
        noise: standard deviation of one run.
        freedom: degrees of freedom behind the noise.
        check: out-of-sample errors.
        unmeasurable: task -> why its response cannot be measured at this size; tasks whose score
            is 0 are not among `scored`.
        reference: sampling ratios that weights of 1 stand for; None for weights of the loss.
        source: SHA-256 of the table of trials.
        fraction: of every task's training data that each trial saw; None where it is not known.
    """

    tasks: tuple[str, ...]
    scored: tuple[str, ...]
    unit_of_task: Mapping[str, str]
    level: PerScore
    trials: int
    reach: float
    departure: Departure
    estimates: Coefficients
    spread: Covariance
    shrunk: tuple[Shrunk, ...]
    noise: PerScore
    freedom: float
    check: Check
    unmeasurable: Mapping[str, str]
    reference: PerTask | None
    source: str
    fraction: Fraction | None = None

    @property
    def lever(self) -> Lever:
        """What the trials differed in."""
        return WEIGHTS if self.reference is None else RATIOS

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
        covariances = []
        for alone in np.eye(len(self.scored)):
            covariance, _ = self.combination(alone)
            covariances.append(covariance)
        return np.stack(covariances)

    @cached_property
    def freedoms(self) -> tuple[float, ...]:
        """Degrees of freedom behind the shrunk coefficients of every score."""
        freedoms = []
        for alone in np.eye(len(self.scored)):
            _, freedom = self.combination(alone)
            freedoms.append(freedom)
        return tuple(freedoms)

    def combination(self, shares: PerScore) -> tuple[Covariance, float]:
        """Covariance of the shrunk coefficients of a weighted sum of scores, and the degrees of
        freedom behind it (Welch and Satterthwaite).
        """
        total = np.zeros_like(self.spread)
        precision = np.linalg.inv(self.spread)
        sizes, scaled_squares = [], []
        for group in self.shrunk:
            members = list(group.members)
            covariances = group.covariances(shares[members])
            for covariance, freedom in zip(covariances, group.freedoms, strict=True):
                total = total + covariance
                size = float(np.trace(covariance @ precision))
                sizes.append(size)
                scaled_squares.append(size**2 / freedom)
        return total, sum(sizes) ** 2 / sum(scaled_squares)

    @property
    def curved(self) -> bool:
        """Whether there is a curvature."""
        return self.estimates.shape[1] == len(self.tasks)

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """The measurable tasks that the mean is taken over: those with a weight, since the others
        are only guarded; all, where no score is that of a task with a weight.
        """
        measurable = [name for name in self.scored if name not in self.unmeasurable]
        return tuple(name for name in measurable if name in self.unit_of_task) or tuple(measurable)

    @property
    def effects(self) -> TaskScore:
        """Shrunk effect of doubling each weight, the others unchanged, without the curvature."""
        directions = self.basis.shape[1]
        slopes = self.mean[:, :directions]
        return self.basis @ slopes.T

    @property
    def curvature(self) -> PerScore:
        """Change per squared doubling, at most 0, since an upward curve cannot be extrapolated to
        weights that were not tried.
        """
        if not self.curved:
            return np.zeros(len(self.scored))
        return np.minimum(self.mean[:, -1], 0.0)

    @property
    def explained(self) -> float:
        """Share of the squared changes of left-out trials that predictions explain, over measurable
        tasks whose scores changed, each in units of its noise; below 0 where no effect at all would
        predict better.
        """
        counted = [
            i
            for i, name in enumerate(self.scored)
            if name not in self.unmeasurable and name not in self.constant
        ]
        noise = self.noise[counted]
        errors = self.check.error[counted] / noise
        baselines = self.check.baseline[counted] / noise
        tiny = np.finfo(float).tiny
        left = (errors**2).sum()
        total = (baselines**2).sum()
        return float(1 - left / max(total, tiny))

    @property
    def constant(self) -> tuple[str, ...]:
        """Tasks with the same score in all trials."""
        changed = self.check.changed.tolist()
        return tuple(name for name, moved in zip(self.scored, changed, strict=True) if not moved)

    @property
    def check_sentence(self) -> str:
        """The out-of-sample error in words."""
        kind = "mirrored pairs" if self.check.pairs else "groups of trials"
        return (
            f"Out of sample: with {self.check.folds} {kind} left out in turn, predictions explain"
            f" {100 * self.explained:.0f} % of the squared changes of single runs, noise included."
        )

    @property
    def mean_sentence(self) -> str:
        """Which tasks the mean is taken over; empty where it is all that are measurable."""
        known = {*self.counted, *self.unmeasurable}
        apart = [name for name in self.scored if name not in known]
        if not apart:
            return ""
        return (
            f"The mean is taken over {', '.join(self.counted)}; without a weight, so only guarded:"
            f" {', '.join(apart)}."
        )

    @property
    def fraction_sentence(self) -> str:
        """What to expect of trials on a fraction of the data; empty for trials on all of it, and
        where that is not known.
        """
        if self.fraction is None or self.fraction == 1:
            return ""
        return (
            f"The trials trained on {self.fraction} of the data. Such trials predict too much."
            f" {SHORT_TRIALS} A final model, or trials with --fraction 1, will show what they gain."
        )

    def slope(self, task: str, score: str) -> Interval:
        """Effect of doubling the weight of `task` on `score`, by least squares, 95 % t interval."""
        i = self.scored.index(score)
        value, relative_error = self._effect(task, self.estimates[i], self.spread)
        error = self.noise[i] * relative_error
        return _interval(value, float(error), self.freedom)

    def effect(self, task: str, score: str) -> Interval:
        """The same, shrunk by empirical Bayes."""
        i = self.scored.index(score)
        value, error = self._effect(task, self.mean[i], self.covariance[i])
        return _interval(value, error, self.freedoms[i])

    def _effect(
        self, task: str, coefficients: Coefficient, covariance: Covariance
    ) -> tuple[float, float]:
        """Effect of doubling the weight of `task`, and its standard error."""
        direction = self.basis[self.tasks.index(task)]
        size = len(direction)
        slopes = coefficients[:size]
        of_slopes = covariance[:size, :size]
        value = direction @ slopes
        variance = direction @ of_slopes @ direction
        return float(value), float(np.sqrt(variance))

    def curve(self, score: str) -> Interval:
        """Shrunk change of `score` per squared doubling, as estimated; NaN without a curvature."""
        if not self.curved:
            return Interval(float("nan"))
        i = self.scored.index(score)
        value = self.mean[i, -1]
        error = np.sqrt(self.covariance[i, -1, -1])
        return _interval(float(value), float(error), self.freedoms[i])

    def changes(self, z: PerTask) -> PerScore:
        """Predicted change of every score at `z` doublings, Eq. R2."""
        linear = z @ self.effects
        return linear + self.curvature * self.departure(z)

    def errors(self, z: PerTask) -> PerScore:
        """Standard errors of `changes` as predictions of the mean over many runs, Eq. R10."""
        features = self.features(z, self.departure)
        variances = np.einsum("si,sij,sj->s", features, self.covariance, features)
        return np.sqrt(variances + self._share_errors(z) ** 2)

    def _share_errors(self, z: PerTask) -> PerScore:
        """Change for one standard error of the share of own weights in the curvature."""
        return self.departure.error * self.curvature * self.departure.excess(z)

    def prediction(self, z: PerTask, score: str) -> Interval:
        """Change of one score at `z` doublings, averaged over many runs, 95 % interval."""
        shares = np.zeros(len(self.scored))
        shares[self.scored.index(score)] = 1
        return self.combined(z, shares)

    def combined(self, z: PerTask, shares: PerScore) -> Interval:
        """The same for a weighted sum of scores."""
        _, freedom = self.combination(shares)
        value = float(shares @ self.changes(z))
        return _interval(value, self.combined_error(z, shares), freedom)

    def combined_error(self, z: PerTask, shares: PerScore) -> float:
        """Standard error of that weighted sum."""
        [features] = self.features(z, self.combined_departure(shares))
        covariance, _ = self.combination(shares)
        variance = features @ covariance @ features
        of_share = shares @ self._share_errors(z)
        return float(np.sqrt(variance + of_share**2))

    def combined_departure(self, shares: PerScore) -> Departure:
        """That of a weighted sum of scores."""
        pulls = shares * self.curvature
        return self.departure.combined(pulls if pulls.any() else shares)

    def features(self, z: PerTask, departure: Departure) -> Coefficients:
        """What the coefficients of every score are multiplied with: coordinates and departure."""
        departures = departure(z)
        coordinates = np.tile(z @ self.basis, (len(departures), 1))
        return np.column_stack([coordinates, departures]) if self.curved else coordinates

    def to_json(self) -> dict[str, Any]:
        """Every estimate with its interval, noise and out-of-sample error, by task."""
        slopes = {task: self._intervals(partial(self.slope, task)) for task in self.tasks}
        effects = {task: self._intervals(partial(self.effect, task)) for task in self.tasks}
        curvature = self._intervals(self.curve) if self.curved else {}
        check = self.check
        return {
            "tasks": list(self.tasks),
            "scored": list(self.scored),
            "unit_of_task": dict(self.unit_of_task),
            "mean_over": list(self.counted),
            "trials": self.trials,
            "fraction": None if self.fraction is None else str(self.fraction),
            "level": self._by_score(self.level),
            "slopes": slopes,
            "effects": effects,
            "curvature": curvature,
            "own_share_of_curvature": {
                "value": self.departure.share,
                "error": self.departure.error,
            },
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

    def _intervals(self, estimate: Callable[[str], Interval]) -> dict[str, Any]:
        intervals = {}
        for score in self.scored:
            interval = estimate(score)
            intervals[score] = interval.to_json()
        return intervals

    def _by_score(self, values: PerScore) -> dict[str, float]:
        return dict(zip(self.scored, values.tolist(), strict=True))


def _interval(value: float, error: float, freedom: float) -> Interval:
    half = t_quantile(UPPER, freedom) * error
    return Interval(value, value - half, value + half, TRAINING)
