"""From trials to the response: what every weight does to every score, with noise and curvature.

The relative change of a score against equal weights is `b . z + k D(z)`, with `z` the doublings of
the weights and `D` their departure from equal weights. Trials of one training seed share a level.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from cotbal.errors import ScoresError
from cotbal.response.coordinates import departure, directions
from cotbal.response.measurable import unmeasurable
from cotbal.response.regression import Curvature, Regression
from cotbal.response.response import Response
from cotbal.response.shapes import Features, PerScore
from cotbal.response.trials import Trials
from cotbal.response.validation import held_out

EQUAL = 0.01  # doublings below which rounded weights count as equal
SMALLEST = 0.01  # relative to the largest, below which a direction was not tried but rounded


def fit_response(trials: Trials, curvature: Curvature = "task") -> Response:
    """Estimate the effect of every weight on every score.

    Slopes are least squares with t intervals. The shrunk effects that choices rest on are empirical
    Bayes (`cotbal.response.prior`). The noise of a run is moderated over tasks (Smyth 2004).

    Args:
        trials: at least one more than there are tasks, seeds and a curvature; with weights that
            differ in every direction, and not all equally far from equal weights.
        curvature: `task`: every score has its own, shrunk toward their mean; `shared`: all have the
            same; `none`, for trials that are too few for one.

    Returns:
        The response, in % of a score per doubling of a weight, with its out-of-sample error.

    Raises:
        ScoresError: `too-few-trials`, or `aliased-effects` that these trials cannot separate.
    """
    z = trials.doublings
    equal = np.abs(z).max(axis=1) < EQUAL
    level = trials.scores[equal if equal.any() else slice(None)].mean(axis=0)
    regression = _regression(trials, level, curvature)
    _check_design(trials, regression)
    noise = regression.noise(regression.changes)
    unexplained = regression.changes - regression.features @ regression.estimates()
    luck = unmeasurable(trials.scored, noise.raw, unexplained)
    groups: tuple[list[int], list[int]] = ([], [])
    for i, name in enumerate(trials.scored):
        groups[name in luck].append(i)
    shrunk = tuple(regression.shrink(group) for group in groups if group)
    features = regression.within(regression.features)
    return Response(
        tasks=trials.tasks,
        scored=trials.scored,
        level=level,
        trials=len(trials.seeds),
        reach=float(np.abs(z).max()),
        estimates=regression.estimates().T,
        spread=np.linalg.inv(features.T @ features),
        shrunk=shrunk,
        noise=noise.deviation,
        freedom=float(noise.freedom[0]),
        check=held_out(regression, shrunk, z),
        unmeasurable=luck,
        reference=trials.reference,
        source=trials.source,
    )


def _regression(trials: Trials, level: PerScore, curvature: Curvature) -> Regression:
    z, basis = trials.doublings, directions(len(trials.tasks))
    features = z @ basis
    if curvature != "none":
        features = np.column_stack([features, departure(z)])
    _, blocks = np.unique(np.array(trials.seeds), return_inverse=True)
    own = np.zeros((len(trials.scored), basis.shape[1]))
    for i, name in enumerate(trials.scored):
        if name in trials.tasks:
            own[i] = basis[trials.tasks.index(name)]
    sign = -1.0 if trials.lower_is_better else 1.0
    return Regression(features, sign * 100 * (trials.scores / level - 1), blocks, own, curvature)


def _check_design(trials: Trials, regression: Regression) -> None:
    features, curved = regression.within(regression.features), regression.curvature != "none"
    count, seeds = len(trials.seeds), len(set(trials.seeds))
    needed = seeds + features.shape[1] + 1
    if count < needed:
        extra = " and one for the curvature" if curved else ""
        raise ScoresError(
            f"{count} trials of {len(trials.tasks)} tasks: expected at least {needed}, one per task"
            f" and per seed{extra}",
            "too-few-trials",
        )
    basis = directions(len(trials.tasks))
    slopes = features[:, : basis.shape[1]]
    sizes = np.linalg.svd(slopes, compute_uv=False)
    if not sizes[-1] > SMALLEST * sizes[0]:
        raise ScoresError(
            "expected trials that separate the effects of all weights within their seeds; these do"
            f" not separate {', '.join(_aliased(trials.tasks, slopes))}: change each of these"
            " weights in trials where the others stay",
            "aliased-effects",
        )
    if curved and _is_constant(regression.features[:, -1], features):
        raise ScoresError(
            "expected trials with equal weights in the same seeds as the others; without them, what"
            " every change of weights costs (the curvature) cannot be separated from the level of"
            " the scores",
            "aliased-effects",
        )


def _is_constant(departures: Float[np.ndarray, " trial"], features: Features) -> bool:
    """Whether all trials of a seed are about as far from equal weights, or the slopes explain how
    far they are.
    """
    slopes, curve = features[:, :-1], features[:, -1]
    rest = curve - slopes @ (np.linalg.pinv(slopes) @ curve)
    return bool(np.sqrt((rest**2).mean()) < SMALLEST * departures.mean())


def _aliased(tasks: tuple[str, ...], slopes: Float[np.ndarray, "trial direction"]) -> list[str]:
    """Tasks whose effect is not determined."""
    basis = directions(len(tasks))
    seen = np.linalg.pinv(slopes, rcond=SMALLEST) @ slopes
    lost = np.linalg.norm(basis - basis @ seen, axis=1)
    return [task for task, rest in zip(tasks, lost, strict=True) if rest > 0.05]
