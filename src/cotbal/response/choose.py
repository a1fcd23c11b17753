"""Choose weights for a goal: maximise its predicted change, with a guardrail for other tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cotbal.errors import CotbalError, near
from cotbal.response.choice import MEAN, WORST, Choice, Guard
from cotbal.response.coordinates import weights_at
from cotbal.response.headroom import headroom
from cotbal.response.local import local_predictions
from cotbal.response.response import Response
from cotbal.response.shapes import Coordinates, PerScore, PerTask
from cotbal.response.solver import Derivatives, Point, Program, Smooth, maximise
from cotbal.scores.interval import Interval

FLOOR = -1.0  # default of guarded tasks, in % of the score
MARGIN = 1.0  # standard errors by which a guarded task stays above its floor
SLACK = 1e-3  # percent points by which a floor is lowered while the solver runs
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
    """

    goal: str
    response: Response
    shares: PerScore
    worst: Scale | None
    floors: Mapping[int, float]
    margin: float
    max_step: float

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
    """The weights with the best predicted goal among those that keep every guardrail.

    A guarded task's predicted change minus `margin` standard errors stays at or above its floor;
    equal weights always do. Weights that do not promise a gain of more than one standard error are
    not chosen: equal weights are kept.

    Args:
        response: from `fit_response`.
        goal: `mean` over the tasks that count, see `Response.counted`, `worst` (raise the smallest
            change of these, or the lowest score relative to `single_task`), or names of tasks or
            groups.
        floors: in % of the score, at most 0: one for all tasks that the goal does not name, or by
            task, with the key `*` for all others; None guards nothing.
        max_step: largest allowed doubling of a weight against the geometric mean of all.
        margin: in standard errors of the predicted change.
        single_task: task -> score of a model trained on it alone, on the same validation samples
            and as much data as the trials; tasks without one do not count in `worst`.

    Raises:
        CotbalError: `unknown-task`, `not-measurable` (a goal that is luck at this size),
            `infeasible-floor` (above 0), `not-positive` (max_step, margin).
    """
    alone = dict(single_task or {}) if goal == WORST else {}
    names = _goal_names(response, goal, alone)
    by_task = _floors(response, names, goal, floors)
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
    )
    z = _inside(problem, _solve(problem))
    error = response.combined_error(z, _active(problem, z))
    keep = _gain(problem, z).value - error <= 0
    if keep:
        z = np.zeros_like(z)
    return _choice(problem, z, keep)


def _goal_names(
    response: Response, goal: str | Sequence[str], single_task: Mapping[str, float]
) -> list[str]:
    """The tasks that count in the goal, in the order of the scores."""
    if goal in (MEAN, WORST):
        return _counted(response, single_task)
    names = [goal] if isinstance(goal, str) else list(goal)
    members: list[str] = []
    for name in names or [""]:
        members += _goal_members(response, name)
    return [name for name in response.scored if name in members]


def _counted(response: Response, single_task: Mapping[str, float]) -> list[str]:
    """The tasks of the goals `mean` and `worst`."""
    counted = [name for name in response.counted if not single_task or name in single_task]
    if not counted:
        raise CotbalError("no task is measurable with these trials", "not-measurable")
    return counted


def _goal_members(response: Response, name: str) -> list[str]:
    """The tasks that a goal names, all measurable."""
    expected = f"goal: expected mean, worst or tasks among {', '.join(response.scored)}"
    is_task = name in response.unmeasurable  # which may be without a score
    members = [name] if is_task else _members(response, name, expected)
    for task in members:
        if task in response.unmeasurable:
            raise CotbalError(
                f"goal: {task} is not measurable with these trials: {response.unmeasurable[task]}",
                "not-measurable",
            )
    return members


def _members(response: Response, name: str, expected: str) -> list[str]:
    """A scored task, or the scored tasks of a group.

    Raises:
        CotbalError: `unknown-task`.
    """
    if name in response.scored:
        return [name]
    members = [task for task in response.scored if response.unit_of_task.get(task) == name]
    if not members:
        raise CotbalError(
            f"{expected}; found {name!r}{near(name, response.scored)}", "unknown-task"
        )
    return members


def _scale(response: Response, single_task: Mapping[str, float]) -> Scale:
    """Changes as they are, or scores relative to those of single-task models."""
    if not single_task:
        changes = np.ones(len(response.scored))
        return Scale(np.zeros_like(changes), changes, {})
    alone = [single_task.get(name, np.inf) for name in response.scored]
    relative = response.level / np.array(alone)
    return Scale(100 * relative, relative, single_task)


def _floors(
    response: Response,
    names: Sequence[str],
    goal: str | Sequence[str],
    floors: float | Mapping[str, float | None] | None,
) -> dict[str, float]:
    """Floor of every guarded task."""
    given: dict[str, float | None] = {}
    for name, floor in (floors if isinstance(floors, Mapping) else {"*": floors}).items():
        _check_floor(name, floor)
        expected = f"floor: expected a task among {', '.join(response.scored)}"
        members = ["*"] if name == "*" else _members(response, name, expected)
        given |= dict.fromkeys(members, floor)
    in_goal = () if goal in (MEAN, WORST) else names
    chosen: dict[str, float] = {}
    for task in response.scored:
        guarded = task not in in_goal and task not in response.unmeasurable
        default = given.get("*") if guarded else None
        floor = given.get(task, default)
        if floor is not None:
            chosen[task] = float(floor)
    return chosen


def _check_floor(task: str, floor: float | None) -> None:
    if floor is not None and not floor <= 0:
        name = "all tasks" if task == "*" else task
        raise CotbalError(
            f"floor of {name}: expected at most 0 %, which equal"
            f" weights keep; found {floor:+g} %. To raise a task, name it in the goal",
            "infeasible-floor",
        )


def _solve(problem: Problem) -> PerTask:
    basis = problem.response.basis
    rows = np.concatenate([basis, -basis])
    limits = np.full(len(rows), problem.max_step)
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
    return Interval(gain.value + ahead, gain.low + ahead, gain.high + ahead)


def _choice(problem: Problem, z: PerTask, keep: bool) -> Choice:
    """What the weights at `z` do."""
    response = problem.response
    weights = weights_at(z).tolist()
    guards = []
    for score, floor in problem.floors.items():
        guard = Guard(response.scored[score], floor, problem.bound(z, score))
        guards.append(guard)
    return Choice(
        goal=problem.goal,
        weights=dict(zip(response.tasks, weights, strict=True)),
        keep_equal=keep,
        gain=_gain(problem, z),
        changes={task: response.prediction(z, task) for task in response.scored},
        guards=tuple(guards),
        unguarded=response.unmeasurable,
        headroom=headroom(response, problem.max_step),
        max_step=problem.max_step,
        warnings=tuple(_warnings(problem, z)),
        single_task=problem.worst.single_task if problem.worst else {},
        by_ratios=response.reference is not None,
    )


def _warnings(problem: Problem, z: PerTask) -> list[str]:
    response = problem.response
    warnings = []
    if not response.curved:
        warnings.append(
            "no curvature was estimated: predictions far from equal weights are too good"
        )
    largest = np.abs(z).max()
    if largest > 1.2 * response.reach:
        warnings.append(
            f"the chosen weights are up to {largest:.2f} doublings from equal weights, the trials"
            f" at most {response.reach:.2f}: the prediction is an extrapolation"
        )
    return warnings
