"""The regression of scores on weights, and its coefficients shrunk by empirical Bayes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from cotbal.response.noise import Noise, moderated_noise
from cotbal.response.prior import Evidence, Posterior, deviation_grid, empirical_bayes
from cotbal.response.shapes import Features, PerScore, TrialColumn, TrialScore

Curvature = Literal["task", "shared", "none"]


@dataclass(frozen=True)
class Part:
    """Shrunk coefficients of some regressions, and what they rest on.

    Attributes:
        posterior: the coefficients.
        noise: standard deviation of one run.
        freedom: degrees of freedom behind the noise.
    """

    posterior: Posterior
    noise: PerScore
    freedom: float


@dataclass(frozen=True)
class Shrunk:
    """Coefficients of some scores: those of their mean, and how each deviates from it.

    The mean is a regression of its own. What a weight does to all scores alike, and noise that the
    scores of a run share, are in it, so that the mean is neither shrunk for the noise of single
    scores nor given an interval as if their noise averaged out.

    Attributes:
        members: indices of the scores.
        common: of the mean over the scores, one row.
        deviations: of every score minus that mean; None for a single score.
    """

    members: tuple[int, ...]
    common: Part
    deviations: Part | None

    @property
    def mean(self) -> Float[np.ndarray, "member coefficient"]:
        """Coefficients of every score; their mean is that of the common part."""
        common = self.common.posterior.mean
        if self.deviations is None:
            return common
        away = self.deviations.posterior.mean
        return common + away - away.mean(axis=0)

    def covariances(
        self, shares: Float[np.ndarray, " member"]
    ) -> tuple[Float[np.ndarray, "a b"], Float[np.ndarray, "a b"]]:
        """Of the coefficients of a weighted sum of scores: from the common part, and from the
        deviations.
        """
        common = shares.sum() ** 2 * self.common.posterior.covariance[0]
        if self.deviations is None:
            return common, np.zeros_like(common)
        # Deviations from a mean of S independent noises have the share 1 - 1/S of their variance.
        squares = (shares - shares.mean()) ** 2 / (1 - 1 / len(shares))
        return common, np.einsum("s,sij->ij", squares, self.deviations.posterior.covariance)

    @property
    def freedoms(self) -> tuple[float, float]:
        """Degrees of freedom behind the two parts."""
        return self.common.freedom, (self.deviations or self.common).freedom


@dataclass(frozen=True)
class Regression:
    """The regression of all scores on the weights.

    Attributes:
        features: of every trial: its place in the basis of directions, then its departure.
        changes: score of every trial, in % above the level of equal weights.
        blocks: number of the seed of every trial.
        own: direction of the task's own weight in the basis, by score; 0 where it has none.
        curvature: `task`: one per score, `shared`: the same for all, `none`.
    """

    features: Features
    changes: TrialScore
    blocks: Int[np.ndarray, " trial"]
    own: Float[np.ndarray, "score direction"]
    curvature: Curvature

    def within(self, values: TrialColumn) -> TrialColumn:
        """The values without the mean of their seed."""
        sums = np.zeros((self.blocks.max() + 1, values.shape[1]))
        np.add.at(sums, self.blocks, values)
        return values - (sums / np.bincount(self.blocks)[:, None])[self.blocks]

    @property
    def freedom(self) -> int:
        """Residual degrees of freedom."""
        used = np.linalg.matrix_rank(self.within(self.features))
        return len(self.blocks) - len(set(self.blocks.tolist())) - int(used)

    def estimates(self) -> Float[np.ndarray, "coefficient score"]:
        """Coefficients by least squares."""
        return np.linalg.pinv(self.within(self.features)) @ self.within(self.changes)

    def noise(self, changes: TrialColumn) -> Noise:
        """Noise of one run in each column; needs at least one degree of freedom."""
        features, values = self.within(self.features), self.within(changes)
        residuals = values - features @ (np.linalg.pinv(features) @ values)
        return moderated_noise((residuals**2).sum(axis=0), self.freedom)

    def rows(self, chosen: Int[np.ndarray, " chosen"]) -> Regression:
        """The regression of some of the trials."""
        _, blocks = np.unique(self.blocks[chosen], return_inverse=True)
        return Regression(
            self.features[chosen], self.changes[chosen], blocks, self.own, self.curvature
        )

    def shrink(self, members: Sequence[int], given: Shrunk | None = None) -> Shrunk:
        """Shrunk coefficients of some scores.

        Args:
            members: indices of the scores.
            given: where noise and deviations of the prior are taken from; estimated without it.
        """
        columns = list(members)
        changes, own = self.changes[:, columns], self.own[columns]
        mean, own_mean = changes.mean(axis=1, keepdims=True), own.mean(axis=0, keepdims=True)
        common = self._part(mean, own_mean, None if given is None else given.common)
        deviations = None
        if len(columns) > 1:
            known = None if given is None else given.deviations
            deviations = self._part(changes - mean, own - own_mean, known)
        return Shrunk(tuple(members), common, deviations)

    def _part(
        self,
        changes: TrialColumn,
        own: Float[np.ndarray, "column direction"],
        known: Part | None,
    ) -> Part:
        if known is None:
            noise = self.noise(changes)
            deviation, freedom = noise.deviation, float(noise.freedom[0])
        else:
            deviation, freedom = known.noise, known.freedom
        features = self.within(self.features)
        evidence = Evidence(
            features.T @ features,
            self.within(changes).T @ features,
            deviation,
            own,
            self.curvature != "none",
        )
        differ = self.curvature == "task" and changes.shape[1] > 1
        grid = deviation_grid(evidence, differ) if known is None else [known.posterior.deviations]
        return Part(empirical_bayes(evidence, grid), deviation, freedom)
