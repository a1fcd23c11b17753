"""Which share of the curvature of scores is due to their own weights: Eq. R8.

All scores have the same share, so that few trials can estimate it. Eq. R2 and R5 give the change of
score `s` as `b_s . z + k (D + r X_s)`, with the share `r`, the departure `D` of all weights and the
excess `X_s` of the own weight's departure over it. What the slopes and `D` do not explain of `X_s`
is the information about `r`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cotbal.response.departure import Departure
from cotbal.response.regression import Regression
from cotbal.response.shapes import PerScore, ScoreTask, TrialScore, TrialTask

GRID = 41  # values of the share and of the curvature that are averaged over
REACH = 4.0  # standard errors of the curvature on either side
NOTHING = 1e-9  # share of the squares of a column that rounding leaves


@dataclass(frozen=True)
class OwnCurvature:
    """The share, and what it explains of the trials.

    Attributes:
        departure: of every score, with the share.
        explained: by the excess of the own weights, in % of the score.
    """

    departure: Departure
    explained: TrialScore


@dataclass(frozen=True)
class _Evidence:
    """The evidence of the trials, all scores together.

    Attributes:
        curve: curvature by least squares, and `curve_information` its inverse squared error.
        moment: `X'y` of the excess, without what the features explain, in units of the noise.
        information: `X'X` of the same.
    """

    curve: float
    curve_information: float
    moment: float
    information: float


def own_curvature(regression: Regression, is_own: ScoreTask, z: TrialTask) -> OwnCurvature:
    """The share of the own weight: its posterior mean and standard deviation, Eq. R8.

    The prior of the curvature `k`, at most 0, and of the share, 0 to 1, is uniform. Trials without
    information about the share leave it at 1/2 with a standard error of .3.

    Args:
        is_own: 1 where the task's weight is the score's own.
        z: doublings of every trial.
    """
    unknown = Departure(is_own)
    excess = unknown.excess(z)
    if regression.curvature == "none" or not is_own.any():
        return OwnCurvature(unknown, np.zeros_like(excess))
    has_own = is_own.sum(axis=1)
    first = _evidence(regression, has_own, excess, regression.changes)
    best = first.moment / first.information if first.information else 0.0
    # The noise is what remains without the part that the excess explains.
    evidence = _evidence(regression, has_own, excess, regression.changes - best * excess)
    steps = np.linspace(-REACH, REACH, GRID) / np.sqrt(evidence.curve_information)
    curves = np.minimum(evidence.curve + steps, 0.0)
    shares = np.linspace(0, 1, GRID)[:, None]
    products = shares * curves
    fit = evidence.moment * products
    fit = fit - 0.5 * evidence.information * products**2
    distance = curves - evidence.curve
    fit = fit - 0.5 * evidence.curve_information * distance**2
    likelihood = np.exp(fit - fit.max())
    likelihood /= likelihood.sum()
    share = (likelihood * shares).sum()
    variance = (likelihood * (shares - share) ** 2).sum()
    product = (likelihood * products).sum()
    departure = Departure(is_own, float(share), float(np.sqrt(variance)))
    return OwnCurvature(departure, product * excess)


def _evidence(
    regression: Regression, has_own: PerScore, excess: TrialScore, noisy: TrialScore
) -> _Evidence:
    """Evidence on the share.

    Args:
        has_own: 1 where a score has a weight of its own.
        noisy: changes from which the noise is estimated, after the fit of the features.
    """
    features = regression.within(regression.features)
    inverse = np.linalg.inv(features.T @ features)
    within = regression.within(excess)
    explained = features @ (inverse @ features.T @ within)
    rest = within - explained
    noise = regression.noise(noisy).deviation
    precision = has_own / noise**2
    curves = regression.estimates(regression.changes)[-1]
    changes = regression.within(regression.changes)
    moments = (rest * changes).sum(axis=0)
    squares = (rest**2).sum(axis=0)
    is_informative = squares > NOTHING * (within**2).sum(axis=0)  # more than rounding
    total = precision.sum()
    informative = precision * is_informative
    return _Evidence(
        curve=float(precision @ curves / total),
        curve_information=float(total / inverse[-1, -1]),
        moment=float(informative @ moments),
        information=float(informative @ squares),
    )
