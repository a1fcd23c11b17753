"""Empirical Bayes for effects of weights: noisy slopes are pulled toward what all have in common.

The coefficients of a score are the slopes by weight, in an orthonormal basis of the directions in
which ratios of weights change, and the curvature. Before the trials they are normal: the effect of
a task's own weight has the mean `m` and the deviation `t_own`, effects of the weights of others
have the mean `-m / (T - 1)`, because raising all weights changes nothing, and the deviation
`t_cross`; the curvatures of all scores have the mean `k` and the deviation `t_curve`. `m` and `k`
are estimated with the coefficients. The three deviations are averaged over a grid by their
restricted likelihood instead of being set to their best value, since a best value of 0 would
promise exact slopes (Morris 1983; Gelman et al., Bayesian Data Analysis, section 5.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float

from cotbal.response.shapes import Coefficients, Covariances, PerScore

FLAT = 1e-9  # precision of the prior of the two means
NEGLIGIBLE = 1e-3  # likelihood, relative to the best, of a point that is left out
LARGEST_BATCH = 2_000_000  # numbers in one stack of matrices
Deviations = tuple[float, float, float]  # of own effects, of cross effects, of curvatures


@dataclass(frozen=True)
class Evidence:
    """What the trials say about the coefficients of every score.

    Attributes:
        information: `X'X`, levels of the seeds removed.
        moments: `X'y`, by score.
        noise: standard deviation of one run, by score.
        own: direction of the task's own weight in the basis, by score; 0 where it has none.
        curved: whether the last coefficient is the curvature.
    """

    information: Float[np.ndarray, "coefficient coefficient"]
    moments: Coefficients
    noise: PerScore
    own: Float[np.ndarray, "score direction"]
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
    batch = max(1, LARGEST_BATCH // (scores * size * size))
    parts = _batches(np.array(grid), batch)
    logs = np.concatenate([_conditional(evidence, part).log_evidence for part in parts])
    # Uniform in the deviations themselves; the grid is uniform in their logarithms.
    logs = logs + np.log(np.where(np.array(grid) > 0, grid, 1.0)).sum(axis=1)
    weights = np.exp(logs - logs.max())
    kept = np.flatnonzero(weights > NEGLIGIBLE)
    weights = weights[kept] / weights[kept].sum()
    moments = [
        _moments(evidence, _conditional(evidence, part))
        for part in _batches(np.array(grid)[kept], batch)
    ]
    means, covariances = (np.concatenate(part) for part in zip(*moments, strict=True))
    mean = np.einsum("g,gsi->si", weights, means)
    away = means - mean
    covariance = np.einsum("g,gsij->sij", weights, covariances)
    covariance += np.einsum("g,gsi,gsj->sij", weights, away, away)
    return Posterior(mean, covariance, grid[int(logs.argmax())])


def deviation_grid(evidence: Evidence, curves_differ: bool) -> list[Deviations]:
    """Deviations from far below the noise of a slope to far above the largest slopes seen."""
    size = evidence.own.shape[1]
    slopes = _levels(evidence, slice(0, size), 7)
    curves = [0.0]
    if evidence.curved and curves_differ:
        curves = _levels(evidence, slice(size, size + 1), 4)
    own = slopes if np.abs(evidence.own).max() > 0 else [0.0]
    return list(product(own, slopes, curves))


def _levels(evidence: Evidence, part: slice, count: int) -> list[float]:
    information = evidence.information[part, part]
    inverse = np.linalg.pinv(information)
    estimates = evidence.moments[:, part] @ inverse
    error = float(np.sqrt(np.median(evidence.noise) ** 2 * np.trace(inverse) / len(inverse)))
    seen = float(np.sqrt((estimates**2).mean()))
    return np.geomspace(0.1 * error, max(3 * error, 2 * seen), count).tolist()


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

    log_evidence: Float[np.ndarray, " grid"]
    inner: Float[np.ndarray, "grid score coefficient coefficient"]
    prior: Float[np.ndarray, "grid score coefficient coefficient"]
    centre: Float[np.ndarray, "grid score coefficient"]
    lever: Float[np.ndarray, "grid score coefficient common"]
    common: Float[np.ndarray, "grid common common"]


def _conditional(evidence: Evidence, deviations: Float[np.ndarray, "grid kind"]) -> _Conditional:
    information, moments = _scaled(evidence)
    pattern, prior = _pattern(evidence), _prior_covariance(evidence, deviations)
    inner = np.eye(information.shape[-1]) + prior @ information
    shrunk = prior @ moments[:, :, None]
    sides = np.concatenate(
        [shrunk, np.broadcast_to(pattern, (*shrunk.shape[:-1], pattern.shape[-1]))], -1
    )
    solved = np.linalg.solve(inner, sides)
    shrunk, lever = solved[..., 0], solved[..., 1:]
    # What the common means have to explain, and how precisely they are known.
    rest = moments - np.einsum("sij,gsj->gsi", information, shrunk)
    precision = np.einsum("sim,gsin->gmn", pattern, information @ lever)
    precision += FLAT * np.eye(pattern.shape[-1])
    covariance = np.linalg.inv(precision)
    common_moments = np.einsum("sim,gsi->gm", pattern, rest)
    common = np.einsum("gmn,gn->gm", covariance, common_moments)
    logs = 0.5 * np.einsum("si,gsi->g", moments, shrunk)
    logs += 0.5 * np.einsum("gm,gm->g", common, common_moments)
    logs -= 0.5 * np.linalg.slogdet(inner)[1].sum(axis=1)
    logs -= 0.5 * np.linalg.slogdet(precision)[1]
    centre = np.einsum("sim,gm->gsi", pattern, common)
    return _Conditional(logs, inner, prior, centre, lever, covariance)


def _moments(evidence: Evidence, given: _Conditional) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the coefficients for every point of the grid."""
    information, moments = _scaled(evidence)
    covariance = np.linalg.solve(given.inner, given.prior)
    residual = moments - np.einsum("sij,gsj->gsi", information, given.centre)
    mean = given.centre + np.einsum("gsij,gsj->gsi", covariance, residual)
    spread = given.lever @ given.common[:, None] @ given.lever.transpose(0, 1, 3, 2)
    return mean, covariance + spread


def _scaled(
    evidence: Evidence,
) -> tuple[Covariances, Coefficients]:
    """Information and moments in units of the noise."""
    precision = 1 / evidence.noise**2
    return evidence.information * precision[:, None, None], evidence.moments * precision[:, None]


def _batches(values: np.ndarray, size: int) -> list[np.ndarray]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _pattern(evidence: Evidence) -> Float[np.ndarray, "score coefficient common"]:
    """How the mean own effect and the mean curvature enter the coefficients of every score."""
    scores, directions = evidence.own.shape
    pattern = np.zeros((scores, directions + evidence.curved, 1 + evidence.curved))
    pattern[:, :directions, 0] = evidence.own * (directions + 1) / max(directions, 1)
    if evidence.curved:
        pattern[:, directions, 1] = 1
    return pattern


def _prior_covariance(
    evidence: Evidence, deviations: Float[np.ndarray, "grid kind"]
) -> Float[np.ndarray, "grid score coefficient coefficient"]:
    own, cross, curve = (deviations**2).T
    scores, directions = evidence.own.shape
    size = directions + evidence.curved
    prior = np.zeros((len(deviations), scores, size, size))
    outer = evidence.own[:, :, None] * evidence.own[:, None, :]
    prior[:, :, :directions, :directions] = (
        cross[:, None, None, None] * np.eye(directions) + (own - cross)[:, None, None, None] * outer
    )
    if evidence.curved:
        prior[:, :, directions, directions] = curve[:, None]
    return prior
