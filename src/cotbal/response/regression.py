"""The regression of scores on weights, Eq. R6, and its coefficients shrunk by Eq. R9."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from cotbal.response.noise import Noise, moderated_noise
from cotbal.response.prior import Evidence, Posterior, deviation_grid, empirical_bayes
from cotbal.response.shapes import (
    Blocks,
    Coefficients,
    Covariance,
    Features,
    OwnDirections,
    PerScore,
    TrialColumn,
    TrialIndices,
    TrialScore,
)

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

    The mean is a regression of its own. It holds what a weight does to all scores alike, and the
    noise that the scores of a run share. So the mean is not shrunk for the noise of single scores,
    and its interval does not assume that this noise averages out.

    Attributes:
        members: indices of the scores.
        common: of the mean over the scores, one row.
        deviations: of every score minus that mean; None for a single score.
    """

    members: tuple[int, ...]
    common: Part
    deviations: Part | None

    @property
    def mean(self) -> Coefficients:
        """Coefficients of every score; their mean is that of the common part."""
        common = self.common.posterior.mean
        if self.deviations is None:
            return common
        away = self.deviations.posterior.mean
        return common + away - away.mean(axis=0)

    def covariances(self, shares: PerScore) -> tuple[Covariance, Covariance]:
        """Of the coefficients of a weighted sum of scores: from the common part, and from the
        deviations.
        """
        [of_mean] = self.common.posterior.covariance
        common = shares.sum() ** 2 * of_mean
        if self.deviations is None:
            return common, np.zeros_like(common)
        # Deviations from a mean of S independent noises have the share 1 - 1/S of their variance.
        variance_share = 1 - 1 / len(shares)
        away = shares - shares.mean()
        squares = away**2 / variance_share
        covariances = self.deviations.posterior.covariance
        return common, np.einsum("s,sij->ij", squares, covariances)

    @property
    def freedoms(self) -> tuple[float, float]:
        """Degrees of freedom behind the two parts."""
        deviations = self.deviations or self.common
        return self.common.freedom, deviations.freedom


@dataclass(frozen=True)
class Regression:
    """The regression of all scores on the weights.

    Attributes:
        features: of every trial: its coordinates in the basis of directions, then the departure of
            all weights.
        changes: score of every trial, in % above the level of equal weights, without `explained`.
        blocks: number of the seed of every trial.
        own_directions: of the task's own weight in the basis, by score; 0 where it has none.
        curvature: `task`: one per score, `shared`: the same for all, `none`.
        explained: changes that other than the features explain.
    """

    features: Features
    changes: TrialScore
    blocks: Blocks
    own_directions: OwnDirections
    curvature: Curvature
    explained: TrialScore

    def less(self, explained: TrialScore) -> Regression:
        """The regression of what is left to explain."""
        return replace(self, changes=self.changes - explained, explained=explained)

    def within(self, values: TrialColumn) -> TrialColumn:
        """The values without the mean of their seed."""
        counts = np.bincount(self.blocks)
        sums = np.zeros((len(counts), values.shape[1]))
        np.add.at(sums, self.blocks, values)
        means = sums / counts[:, None]
        return values - means[self.blocks]

    @property
    def freedom(self) -> int:
        """Residual degrees of freedom."""
        seeds = np.unique(self.blocks)
        coefficients = np.linalg.matrix_rank(self.within(self.features))
        return len(self.blocks) - len(seeds) - int(coefficients)

    def estimates(self, changes: TrialColumn) -> Float[np.ndarray, "coefficient column"]:
        """Coefficients by least squares, Eq. R6, for every column."""
        features = self.within(self.features)
        return np.linalg.pinv(features) @ self.within(changes)

    def noise(self, changes: TrialColumn) -> Noise:
        """Noise of one run in each column; needs at least one degree of freedom."""
        predicted = self.within(self.features) @ self.estimates(changes)
        residuals = self.within(changes) - predicted
        squares = (residuals**2).sum(axis=0)
        return moderated_noise(squares, self.freedom)

    def rows(self, chosen: TrialIndices) -> Regression:
        """The regression of some of the trials."""
        _, blocks = np.unique(self.blocks[chosen], return_inverse=True)
        return replace(
            self,
            features=self.features[chosen],
            changes=self.changes[chosen],
            blocks=blocks,
            explained=self.explained[chosen],
        )

    def shrink(self, members: Sequence[int], given: Shrunk | None = None) -> Shrunk:
        """Shrunk coefficients of some scores.

        Args:
            members: indices of the scores.
            given: where noise and deviations of the prior are taken from; estimated without it.
        """
        columns = list(members)
        changes = self.changes[:, columns]
        mean = changes.mean(axis=1, keepdims=True)
        directions = self.own_directions[columns]
        mean_direction = directions.mean(axis=0, keepdims=True)
        known_common = given.common if given else None
        known_deviations = given.deviations if given else None
        common = self._part(mean, mean_direction, known_common)
        deviations = None
        if len(columns) > 1:
            deviations = self._part(changes - mean, directions - mean_direction, known_deviations)
        return Shrunk(tuple(members), common, deviations)

    def _part(self, changes: TrialColumn, directions: OwnDirections, known: Part | None) -> Part:
        if known is not None:
            evidence = self._evidence(changes, directions, known.noise)
            posterior = empirical_bayes(evidence, [known.posterior.deviations])
            return Part(posterior, known.noise, known.freedom)
        noise = self.noise(changes)
        evidence = self._evidence(changes, directions, noise.deviation)
        curves_differ = self.curvature == "task" and changes.shape[1] > 1
        grid = deviation_grid(evidence, curves_differ)
        posterior = empirical_bayes(evidence, grid)
        return Part(posterior, noise.deviation, float(noise.freedom[0]))

    def _evidence(
        self, changes: TrialColumn, directions: OwnDirections, noise: PerScore
    ) -> Evidence:
        features = self.within(self.features)
        values = self.within(changes)
        return Evidence(
            information=features.T @ features,
            moments=values.T @ features,
            noise=noise,
            own_directions=directions,
            curved=self.curvature != "none",
        )
