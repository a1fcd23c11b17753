"""From trials to the response: what every weight does to every score, with noise and curvature.

The model is Eq. R2: the relative change of a score against equal weights is `b . z + k D(z)`, with
`z` the doublings of the weights and `D` their departure from equal weights. Trials of one training
seed share a level. The steps of the fit: share of the own weight (R8), noise (R7), least squares
(R6), shrinkage (R9), check on left-out trials (R14).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from cotbal.errors import ScoresError
from cotbal.response.coordinates import directions, undetermined
from cotbal.response.departure import joint_departure
from cotbal.response.measurable import unmeasurable
from cotbal.response.own_share import own_curvature
from cotbal.response.regression import Curvature, Regression
from cotbal.response.response import Response
from cotbal.response.shapes import Features, PerScore, ScoreTask
from cotbal.response.trials import Trials
from cotbal.response.validation import held_out

EQUAL = 0.01  # doublings below which rounded weights count as equal
SILENT = "its score with equal weights is 0"
SMALLEST = 0.01  # relative to the largest, below which a direction was not tried but rounded


def fit_response(trials: Trials, curvature: Curvature = "task") -> Response:
    """Estimate the effect of every weight on every score.

    Slopes are least squares with t intervals (Eq. R6). Choices use shrunk effects (empirical Bayes,
    Eq. R9). The noise of a run is moderated over tasks (Eq. R7).

    Args:
        trials: at least one more than there are tasks, seeds and a curvature; with weights that
            differ in every direction, and not all equally far from equal weights.
        curvature: `task`: every score has its own, shrunk toward their mean; `shared`: all have the
            same; `none`, for trials that are too few for one.

    Returns:
        The response, in % of a score per doubling of a weight, with its out-of-sample error.

    Raises:
        ScoresError: `too-few-trials`, `aliased-effects` that these trials cannot separate, or
            `not-measurable`: every score is 0.
    """
    trials, silent = _with_a_level(trials)
    z = trials.doublings
    level = _level(trials)
    regression = _regression(trials, level, curvature)
    _check_design(trials, regression)
    curved = own_curvature(regression, _is_own(trials), z)
    regression = regression.less(curved.explained)
    noise = regression.noise(regression.changes)
    estimates = regression.estimates(regression.changes)
    unexplained = regression.changes - regression.features @ estimates
    reasons = unmeasurable(trials.scored, noise.raw, unexplained)
    measurable = [i for i, name in enumerate(trials.scored) if name not in reasons]
    others = [i for i, name in enumerate(trials.scored) if name in reasons]
    shrunk = tuple(regression.shrink(group) for group in (measurable, others) if group)
    features = regression.within(regression.features)
    information = features.T @ features
    return Response(
        tasks=trials.tasks,
        scored=trials.scored,
        unit_of_task=trials.unit_of_task,
        level=level,
        trials=len(trials.seeds),
        reach=float(np.abs(z).max()),
        estimates=estimates.T,
        departure=curved.departure,
        spread=np.linalg.inv(information),
        shrunk=shrunk,
        noise=noise.deviation,
        freedom=float(noise.freedom[0]),
        check=held_out(regression, shrunk, z),
        unmeasurable=reasons | silent,
        reference=trials.reference,
        source=trials.source,
        fraction=trials.fraction,
    )


def _with_a_level(trials: Trials) -> tuple[Trials, dict[str, str]]:
    """The trials without scores that are 0 at equal weights, of which there are no changes in %;
    and why these are not measurable.
    """
    level = _level(trials)
    silent = {name: SILENT for name, score in zip(trials.scored, level, strict=True) if not score}
    if not silent:
        return trials, {}
    if len(silent) == len(trials.scored):
        raise ScoresError(
            "expected trials that score above 0 with equal weights; every score is 0",
            "not-measurable",
        )
    scored = tuple(name for name in trials.scored if name not in silent)
    return replace(trials, scored=scored, scores=trials.scores[:, level > 0]), silent


def _level(trials: Trials) -> PerScore:
    """Mean scores of the trials with equal weights, or of all where there are none."""
    largest = np.abs(trials.doublings).max(axis=1)
    equal = largest < EQUAL
    if not equal.any():
        return trials.scores.mean(axis=0)
    return trials.scores[equal].mean(axis=0)


def _regression(trials: Trials, level: PerScore, curvature: Curvature) -> Regression:
    z = trials.doublings
    basis = directions(len(trials.tasks))
    features = z @ basis
    if curvature != "none":
        features = np.column_stack([features, joint_departure(z)])
    _, blocks = np.unique(np.array(trials.seeds), return_inverse=True)
    percent = -100.0 if trials.lower_is_better else 100.0
    changes = trials.scores / level - 1
    return Regression(
        features=features,
        changes=percent * changes,
        blocks=blocks,
        own_directions=_is_own(trials) @ basis,
        curvature=curvature,
        explained=np.zeros_like(changes),
    )


def _is_own(trials: Trials) -> ScoreTask:
    """1 where the task's weight is the score's own."""
    is_own = np.zeros((len(trials.scored), len(trials.tasks)))
    for name, unit in trials.unit_of_task.items():
        i = trials.scored.index(name)
        task = trials.tasks.index(unit)
        is_own[i, task] = 1
    return is_own


def _check_design(trials: Trials, regression: Regression) -> None:
    features = regression.within(regression.features)
    curved = regression.curvature != "none"
    count = len(trials.seeds)
    seeds = len(set(trials.seeds))
    needed = seeds + features.shape[1] + 1
    if count < needed:
        extra = " and one for the curvature" if curved else ""
        raise ScoresError(
            f"{count} trials of {len(trials.tasks)} tasks: expected at least {needed}, one per task"
            f" and per seed{extra}",
            "too-few-trials",
        )
    slopes = features[:, : len(trials.tasks) - 1]
    sizes = np.linalg.svd(slopes, compute_uv=False)
    if not sizes[-1] > SMALLEST * sizes[0]:
        names = ", ".join(_aliased(trials.tasks, slopes))
        raise ScoresError(
            "expected trials that separate the effects of all weights within their seeds; these do"
            f" not separate {names}: change each of these weights in trials where the others stay",
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
    slopes = features[:, :-1]
    curve = features[:, -1]
    coefficients = np.linalg.pinv(slopes) @ curve
    rest = curve - slopes @ coefficients
    error = np.sqrt((rest**2).mean())
    return bool(error < SMALLEST * departures.mean())


def _aliased(tasks: tuple[str, ...], slopes: Features) -> list[str]:
    """Tasks whose effect is not determined."""
    lost = undetermined(slopes, SMALLEST)
    return [task for task, rest in zip(tasks, lost, strict=True) if rest > 0.05]
