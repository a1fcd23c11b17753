"""Empirical Bayes for effects of weights: noisy slopes are pulled toward what all have in common.

This is Eq. R9. The coefficients of a score are the slopes by weight, in an orthonormal basis of the
directions in which ratios of weights change, and the curvature. Their prior is normal:

| coefficient | prior mean | deviation |
|---|---|---|
| effect of the task's own weight | `m` | `t_own` |
| effect of the weight of another task | `-m / (T - 1)` | `t_cross` |
| curvature | `k` | `t_curve` |

The means of the first two cancel, because raising all weights changes nothing. `m` and `k` are
estimated with the coefficients. The three deviations are averaged over a grid by their restricted
likelihood. They are not set to their best value, since a best value of 0 would mean exact slopes
(Morris 1983; Gelman et al., Bayesian Data Analysis, section 5.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float

from cotbal.response.shapes import (
    Coefficients,
    Covariance,
    Covariances,
    OwnDirections,
    PerScore,
)

FLAT = 1e-9  # precision of the prior of the two means
NEGLIGIBLE = 1e-3  # likelihood, relative to the best, of a point that is left out
LARGEST_BATCH = 2_000_000  # numbers in one stack of matrices
Deviations = tuple[float, float, float]  # of own effects, of cross effects, of curvatures
Grid = Float[np.ndarray, "grid kind"]  # one row of deviations per point
GridCoefficients = Float[np.ndarray, "grid score coefficient"]
GridCovariances = Float[np.ndarray, "grid score coefficient coefficient"]
GridCommon = Float[np.ndarray, "grid common common"]
Pattern = Float[np.ndarray, "score coefficient common"]
Lever = Float[np.ndarray, "grid score coefficient common"]
PerPoint = Float[np.ndarray, " grid"]


@dataclass(frozen=True)
class Evidence:
    """The evidence of the trials about the coefficients of every score.

    Attributes:
        information: `X'X`, levels of the seeds removed.
        moments: `X'y`, by score.
        noise: standard deviation of one run, by score.
        own_directions: of the task's own weight in the basis, by score; 0 where it has none.
        curved: whether the last coefficient is the curvature.
    """

    information: Covariance
    moments: Coefficients
    noise: PerScore
    own_directions: OwnDirections
    curved: bool


@dataclass(frozen=True)
class Posterior:
    """Coefficients after the trials.

    Attributes:
        mean: expected coefficients.
        covariance: of the coefficients of each score.
        deviations: the values on the grid that the trials support best.
    """

    mean: Coefficients
    covariance: Covariances
    deviations: Deviations


def empirical_bayes(evidence: Evidence, grid: Sequence[Deviations]) -> Posterior:
    """Coefficients shrunk by their own noise, averaged over the deviations of `grid`."""
    scores, size = evidence.moments.shape
    numbers = scores * size * size
    batch = max(1, LARGEST_BATCH // numbers)
    points = np.array(grid)
    logs = _log_posterior(evidence, points, batch)
    likelihood = np.exp(logs - logs.max())
    kept = np.flatnonzero(likelihood > NEGLIGIBLE)
    weights = likelihood[kept]
    weights /= weights.sum()
    means, covariances = _all_moments(evidence, points[kept], batch)
    mean = np.einsum("g,gsi->si", weights, means)
    away = means - mean
    covariance = np.einsum("g,gsij->sij", weights, covariances)
    covariance += np.einsum("g,gsi,gsj->sij", weights, away, away)
    best = int(logs.argmax())
    return Posterior(
        mean=mean,
        covariance=covariance,
        deviations=grid[best],
    )


def _log_posterior(evidence: Evidence, points: Grid, batch: int) -> PerPoint:
    """Logarithm of the weight of every point of the grid, up to a constant."""
    parts = []
    for part in _batches(points, batch):
        conditional = _conditional(evidence, part)
        parts.append(conditional.log_evidence)
    # Uniform in the deviations themselves; the grid is uniform in their logarithms.
    positive = np.where(points > 0, points, 1.0)
    return np.concatenate(parts) + np.log(positive).sum(axis=1)


def _all_moments(
    evidence: Evidence, points: Grid, batch: int
) -> tuple[GridCoefficients, GridCovariances]:
    """Mean and covariance of the coefficients for every point of the grid."""
    means, covariances = [], []
    for part in _batches(points, batch):
        conditional = _conditional(evidence, part)
        mean, covariance = _moments(evidence, conditional)
        means.append(mean)
        covariances.append(covariance)
    return np.concatenate(means), np.concatenate(covariances)


def deviation_grid(evidence: Evidence, curves_differ: bool) -> list[Deviations]:
    """Deviations from far below the noise of a slope to far above the largest slopes seen."""
    size = evidence.own_directions.shape[1]
    slopes = _levels(evidence, slice(0, size), 7)
    curves = [0.0]
    if evidence.curved and curves_differ:
        curves = _levels(evidence, slice(size, size + 1), 4)
    own_effects = [0.0]
    if evidence.own_directions.any():
        own_effects = slopes
    return list(product(own_effects, slopes, curves))


def _levels(evidence: Evidence, part: slice, count: int) -> list[float]:
    """Deviations of some of the coefficients, from small to large."""
    information = evidence.information[part, part]
    moments = evidence.moments[:, part]
    inverse = np.linalg.pinv(information)
    estimates = moments @ inverse
    noise = np.median(evidence.noise)
    variance = noise**2 * np.trace(inverse) / len(inverse)
    error = float(np.sqrt(variance))
    squares = estimates**2
    seen = float(np.sqrt(squares.mean()))
    largest = max(3 * error, 2 * seen)
    return np.geomspace(0.1 * error, largest, count).tolist()


@dataclass(frozen=True)
class _Conditional:
    """What follows for given deviations, one entry per point of the grid.

    With `M = X'X / noise^2`, `v = X'y / noise^2` and `P` the prior covariance, everything follows
    from `S = (1 + P M)^-1`, without the inverse of either, so that effects that the trials cannot
    separate are no special case.

    Attributes:
        log_evidence: restricted likelihood, up to a constant.
        inner: `1 + P M`.
        prior: `P`.
        centre: expected coefficients before the trials.
        lever: `S` times the pattern of the common means.
        common: covariance of the common means.
    """

    log_evidence: PerPoint
    inner: GridCovariances
    prior: GridCovariances
    centre: GridCoefficients
    lever: Lever
    common: GridCommon


def _conditional(evidence: Evidence, deviations: Grid) -> _Conditional:
    information, moments = _scaled(evidence)
    pattern = _pattern(evidence)
    prior = _prior_covariance(evidence, deviations)
    coefficients = moments.shape[1]
    inner = np.eye(coefficients) + prior @ information
    shrunk, lever = _solved(inner, prior @ moments[:, :, None], pattern)
    # What the common means have to explain, and how precisely they are known.
    explained = _times(information, shrunk)
    common_moments = np.einsum("sim,gsi->gm", pattern, moments - explained)
    precision = np.einsum("sim,gsin->gmn", pattern, information @ lever)
    precision += FLAT * np.eye(pattern.shape[-1])
    covariance = np.linalg.inv(precision)
    common = np.einsum("gmn,gn->gm", covariance, common_moments)
    _, log_inner = np.linalg.slogdet(inner)
    _, log_precision = np.linalg.slogdet(precision)
    doubled = np.einsum("si,gsi->g", moments, shrunk)
    doubled += np.einsum("gm,gm->g", common, common_moments)
    doubled -= log_inner.sum(axis=1)
    doubled -= log_precision
    return _Conditional(
        log_evidence=0.5 * doubled,
        inner=inner,
        prior=prior,
        centre=np.einsum("sim,gm->gsi", pattern, common),
        lever=lever,
        common=covariance,
    )


def _solved(
    inner: GridCovariances,
    shrunk: Float[np.ndarray, "grid score coefficient one"],
    pattern: Pattern,
) -> tuple[GridCoefficients, Lever]:
    """The inverse of `inner`, times the shrunk moments and times the pattern."""
    points = len(shrunk)
    patterns = np.broadcast_to(pattern, (points, *pattern.shape))
    sides = np.concatenate([shrunk, patterns], axis=-1)
    solved = np.linalg.solve(inner, sides)
    return solved[..., 0], solved[..., 1:]


def _moments(evidence: Evidence, given: _Conditional) -> tuple[GridCoefficients, GridCovariances]:
    """Mean and covariance of the coefficients for every point of the grid."""
    information, moments = _scaled(evidence)
    centre = given.centre
    covariance = np.linalg.solve(given.inner, given.prior)
    residual = moments - _times(information, centre)
    mean = centre + _times(covariance, residual)
    lever = given.lever
    common = given.common[:, None]
    spread = lever @ common @ lever.transpose(0, 1, 3, 2)
    return mean, covariance + spread


def _times(matrices: np.ndarray, vectors: GridCoefficients) -> GridCoefficients:
    """Matrix times vector, for every score and every point of the grid."""
    return np.einsum("...ij,...j->...i", matrices, vectors)


def _scaled(evidence: Evidence) -> tuple[Covariances, Coefficients]:
    """Information and moments in units of the noise."""
    precision = 1 / evidence.noise**2
    information = evidence.information * precision[:, None, None]
    moments = evidence.moments * precision[:, None]
    return information, moments


def _batches(points: Grid, size: int) -> list[Grid]:
    starts = range(0, len(points), size)
    return [points[start : start + size] for start in starts]


def _pattern(evidence: Evidence) -> Pattern:
    """How the mean own effect and the mean curvature enter the coefficients of every score."""
    scores, directions = evidence.own_directions.shape
    tasks = directions + 1
    size = directions + evidence.curved
    pattern = np.zeros((scores, size, 1 + evidence.curved))
    slopes = pattern[:, :directions, 0]
    slopes += evidence.own_directions * tasks / max(directions, 1)
    if evidence.curved:
        pattern[:, directions, 1] = 1
    return pattern


def _prior_covariance(evidence: Evidence, deviations: Grid) -> GridCovariances:
    variances = deviations**2
    own_variance, cross_variance, curve_variance = variances.T[..., None, None, None]
    scores, directions = evidence.own_directions.shape
    size = directions + evidence.curved
    prior = np.zeros((len(deviations), scores, size, size))
    along_own = np.einsum("si,sj->sij", evidence.own_directions, evidence.own_directions)
    slopes = prior[:, :, :directions, :directions]
    slopes += cross_variance * np.eye(directions)
    slopes += (own_variance - cross_variance) * along_own
    if evidence.curved:
        of_curve = prior[:, :, directions:, directions:]
        of_curve += curve_variance
    return prior
