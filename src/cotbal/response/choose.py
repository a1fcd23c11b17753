"""Choose weights for a goal, Eq. R12: maximise its predicted change, with guardrails for others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cotbal.errors import CotbalError
from cotbal.response.choice import MEAN, WORST, Choice, Guard, Promise
from cotbal.response.coordinates import weights_at
from cotbal.response.goals import floors_of, goal_names, not_lowered
from cotbal.response.headroom import headroom
from cotbal.response.local import local_predictions
from cotbal.response.response import Response
from cotbal.response.shapes import Coordinates, PerScore, PerTask
from cotbal.response.solver import Derivatives, Point, Program, Smooth, maximise
from cotbal.scores.interval import Interval

FLOOR = -1.0  # default of guarded tasks, in % of the score
MARGIN = 1.0  # standard errors by which a guarded task stays above its floor
SLACK = 1e-3  # percent points by which a floor is lowered while the solver runs
ROOM = 1e-3  # doublings below 0 for weights that are not lowered: equal ones must lie inside
SMOOTH = 1e-4  # percent points; rounds the tip of the standard error at equal weights


@dataclass(frozen=True)
class Scale:
    """What the goal `worst` takes the smallest of: `start + factor * change`, by score.

    Attributes:
        start: at equal weights: 0, or the score in % of that of the single-task model.
        factor: per % of change.
        single_task: scores of the single-task models, if they are used.
    """

    start: PerScore
    factor: PerScore
    single_task: Mapping[str, float]


@dataclass(frozen=True)
class Problem:
    """What is maximised under which guards.

    Attributes:
        goal: as `Choice` names it.
        response: of the scores.
        shares: weight of every score in the goal, sum 1; of `worst`, equal where a score counts.
        worst: what the smallest is taken of; None where the goal is a mean.
        floors: index of a score -> its floor.
        margin: standard errors.
        max_step: in doublings.
        held: tasks whose weight is not lowered against the geometric mean of all.
    """

    goal: str
    response: Response
    shares: PerScore
    worst: Scale | None
    floors: Mapping[int, float]
    margin: float
    max_step: float
    held: Collection[str]

    def bound(self, z: PerTask, score: int) -> float:
        """Predicted change of a guarded score minus the margin."""
        changes = self.response.changes(z)
        errors = self.response.errors(z)
        return float(changes[score] - self.margin * errors[score])

    def feasible(self, z: PerTask) -> bool:
        """Whether every guarded score stays above its floor."""
        return all(self.bound(z, score) >= floor for score, floor in self.floors.items())


def choose_weights(
    response: Response,
    goal: str | Sequence[str] = MEAN,
    floors: float | Mapping[str, float | None] | None = FLOOR,
    max_step: float = 1.0,
    margin: float = MARGIN,
    single_task: Mapping[str, float] | None = None,
) -> Choice:
    """The weights with the best predicted goal among those that keep every guardrail, Eq. R12.

    A guarded task's predicted change minus `margin` standard errors stays at or above its floor;
    equal weights always do. If the predicted gain is at most one standard error, equal weights are
    kept; smaller steps are not tried.

    Args:
        response: from `fit_response`.
        goal: `mean` over the tasks that count, see `Response.counted`, `worst` (raise the smallest
            change of these, or the lowest score relative to `single_task`), or names of tasks or
            groups.
        floors: in % of the score, at most 0: one for all tasks that the goal does not name, or by
            task, with the key `*` for all others; None guards nothing. A task that is not
            measurable has a floor only where it is named; otherwise its weight is not lowered.
        max_step: largest allowed doubling of a weight against the geometric mean of all.
        margin: in standard errors of the predicted change.
        single_task: task -> score of a model trained on it alone, on the same validation samples
            and as much data as the trials; tasks without one do not count in `worst`.

    Raises:
        CotbalError: `unknown-task`, `not-measurable` (a goal whose scores are mostly noise),
            `infeasible-floor` (above 0), `not-positive` (max_step, margin).
    """
    alone = dict(single_task or {}) if goal == WORST else {}
    names = goal_names(response, goal, alone)
    by_task = floors_of(response, names, goal, floors)
    if not 0 < max_step < float("inf") or not margin >= 0:
        raise CotbalError(
            "expected max_step, in doublings, above 0 and margin, in standard errors, at least 0;"
            f" found {max_step:g} and {margin:g}",
            "not-positive",
        )
    counted = [name in names for name in response.scored]
    problem = Problem(
        goal=str(goal) if goal in (MEAN, WORST) else ",".join(names),
        response=response,
        shares=np.array(counted) / sum(counted),
        worst=_scale(response, alone) if goal == WORST else None,
        floors={response.scored.index(task): floor for task, floor in by_task.items()},
        margin=margin,
        max_step=max_step,
        held=not_lowered(response, by_task, floors),
    )
    z = _inside(problem, _solve(problem))
    error = response.combined_error(z, _active(problem, z))
    promise = Promise(max(_gain(problem, z).value, 0.0), error)
    if not promise.counts:
        z = np.zeros_like(z)
    return _choice(problem, z, promise)


def _scale(response: Response, single_task: Mapping[str, float]) -> Scale:
    """Changes as they are, or scores relative to those of single-task models."""
    if not single_task:
        changes = np.ones(len(response.scored))
        return Scale(np.zeros_like(changes), changes, {})
    alone = [single_task.get(name, np.inf) for name in response.scored]
    relative = response.level / np.array(alone)
    return Scale(100 * relative, relative, single_task)


def _solve(problem: Problem) -> PerTask:
    basis = problem.response.basis
    rows = np.concatenate([basis, -basis])
    is_held = [task in problem.held for task in problem.response.tasks]
    lowest = np.where(is_held, ROOM, problem.max_step)
    limits = np.concatenate([np.full(len(basis), problem.max_step), lowest])
    start = np.zeros(basis.shape[1])
    if problem.worst is None:
        program = Program(_functions(problem), rows, limits)
        return basis @ maximise(program, start)
    # One more variable: a level that no score of the goal may fall below.
    rows = np.pad(rows, ((0, 0), (0, 1)))
    program = Program(_functions_above_level(problem, problem.worst), rows, limits)
    lowest = problem.worst.start[problem.shares > 0].min()
    point = maximise(program, np.append(start, lowest - 1))
    return basis @ point[:-1]


def _functions(problem: Problem) -> Smooth:
    """The predicted goal, and the distance of every guarded score from its floor."""
    guarded = list(problem.floors)
    floors = np.array(list(problem.floors.values()))

    def at(coordinates: Coordinates) -> Derivatives:
        local = local_predictions(problem.response, coordinates)
        error, gradient, hessian = _smooth_error(local.variance, guarded)
        margins = (
            problem.margin * (error - SMOOTH) + floors - SLACK,
            problem.margin * gradient,
            problem.margin * hessian,
        )
        parts = []
        for change, margin in zip(local.change, margins, strict=True):
            goal = np.tensordot(problem.shares, change, 1)
            distances = change[guarded] - margin
            parts.append(np.concatenate([goal[None], distances]))
        values, gradients, hessians = parts
        return values, gradients, hessians

    return at


def _smooth_error(variance: Derivatives, scores: list[int]) -> Derivatives:
    """Standard errors of some scores, smooth where they are 0, with gradients and Hessians."""
    value, first, second = (part[scores] for part in variance)
    error = np.sqrt(value + SMOOTH**2)
    gradient = first / (2 * error[:, None])
    hessian = second / (2 * error[:, None, None])
    correction = np.einsum("ni,nj,n->nij", gradient, gradient, 1 / error)
    return error, gradient, hessian - correction


def _functions_above_level(problem: Problem, scale: Scale) -> Smooth:
    """With the level as the last variable: the level itself, the distances of guarded scores from
    their floors, and those of the scores of the goal from the level.
    """
    functions = _functions(problem)
    goal = np.flatnonzero(problem.shares)
    factor = scale.factor[goal]
    start = scale.start[goal]

    def at(point: Point) -> Derivatives:
        coordinates = point[:-1]
        level = point[-1]
        change = local_predictions(problem.response, coordinates).change
        scaled = (np.einsum("n,n...->n...", factor, part[goal]) for part in change)
        values, gradients, hessians = (
            np.concatenate([guards[1:], changes])
            for guards, changes in zip(functions(coordinates), scaled, strict=True)
        )
        above = slice(len(values) - len(goal), None)
        values[above] += start - level
        # One more function, the level, before the others; one more variable after them.
        values = np.append(level, values)
        gradients = np.pad(gradients, ((1, 0), (0, 1)))
        gradients[0, -1] = 1
        gradients[1:][above, -1] = -1
        hessians = np.pad(hessians, ((1, 0), (0, 1), (0, 1)))
        return values, gradients, hessians

    return at


def _inside(problem: Problem, z: PerTask) -> PerTask:
    """The largest part of the step to `z` that keeps the floors themselves, without the slack."""
    if problem.feasible(z):
        return z
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if problem.feasible(middle * z):
            low = middle
        else:
            high = middle
    return low * z


def _active(problem: Problem, z: PerTask) -> PerScore:
    """Weight of every score in the goal at `z`; of `worst`, all on the smallest."""
    if problem.worst is None:
        return problem.shares
    smallest = _smallest(problem, problem.worst, z)
    shares = np.zeros_like(problem.shares)
    shares[smallest] = problem.worst.factor[smallest]
    return shares


def _smallest(problem: Problem, scale: Scale, z: PerTask) -> int:
    """Index of the score that is lowest on the scale at `z`."""
    values = scale.start + scale.factor * problem.response.changes(z)
    counted = np.where(problem.shares > 0, values, np.inf)
    return int(counted.argmin())


def _gain(problem: Problem, z: PerTask) -> Interval:
    """Predicted change of the goal against equal weights."""
    gain = problem.response.combined(z, _active(problem, z))
    if problem.worst is None:
        return gain
    start = problem.worst.start
    before = start[_smallest(problem, problem.worst, np.zeros_like(z))]
    ahead = float(start[_smallest(problem, problem.worst, z)] - before)
    return replace(gain, value=gain.value + ahead, low=gain.low + ahead, high=gain.high + ahead)


def _choice(problem: Problem, z: PerTask, promise: Promise) -> Choice:
    """Predictions at `z`; `promise` is the gain of the best guarded weights."""
    response = problem.response
    weights = weights_at(z).tolist()
    guards = {}
    for score, floor in problem.floors.items():
        task = response.scored[score]
        guards[task] = Guard(task, floor, problem.bound(z, score))
    reasons = response.unmeasurable
    return Choice(
        goal=problem.goal,
        counted=tuple(
            task for task, share in zip(response.scored, problem.shares, strict=True) if share > 0
        ),
        weights=dict(zip(response.tasks, weights, strict=True)),
        best=promise,
        gain=_gain(problem, z),
        changes={task: response.prediction(z, task) for task in response.scored},
        guards=tuple(guards.values()),
        unguarded={task: reason for task, reason in reasons.items() if task not in guards},
        not_lowered=tuple(task for task in response.tasks if task in problem.held),
        uncertain={task: reason for task, reason in reasons.items() if task in guards},
        headroom=headroom(response, problem.max_step),
        max_step=problem.max_step,
        warnings=tuple(_warnings(problem, z)),
        single_task=problem.worst.single_task if problem.worst else {},
        lever=response.lever,
    )


def _warnings(problem: Problem, z: PerTask) -> list[str]:
    response = problem.response
    warnings = [response.fraction_sentence] if response.fraction_sentence else []
    several = response.lever.several
    if not response.curved:
        warnings.append(
            f"no curvature was estimated: predictions far from equal {several} are too good"
        )
    for name in response.constant:
        warnings.append(f"the score of {name} is the same in all trials: check the table")
    largest = np.abs(z).max()
    if largest > 1.2 * response.reach:
        warnings.append(
            f"the chosen {several} are up to {largest:.2f} doublings from equal {several}, the"
            f" trials at most {response.reach:.2f}: the prediction is an extrapolation"
        )
    return warnings
