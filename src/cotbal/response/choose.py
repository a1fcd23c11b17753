"""Choose weights for a goal: maximise its predicted change, with a guardrail for other tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cotbal.errors import CotbalError, near
from cotbal.response.coordinates import weights_at
from cotbal.response.headroom import Headroom, headroom
from cotbal.response.response import Response
from cotbal.response.shapes import PerScore, PerTask, Place
from cotbal.response.solver import Derivatives, Point, Program, Smooth, maximise
from cotbal.scores.interval import Interval

MEAN, WORST = "mean", "worst"
FLOOR = -1.0  # default of guarded tasks, in % of the score
MARGIN = 1.0  # standard errors by which a guarded task stays above its floor
SLACK = 1e-3  # percent points by which a floor is lowered while the solver runs
SMOOTH = 1e-4  # percent points; rounds the tip of the standard error at equal weights


@dataclass(frozen=True)
class Guard:
    """A task that must not fall below its floor.

    Attributes:
        floor: smallest change that is accepted, in % of the score, at most 0.
        bound: predicted change minus one standard error at the chosen weights.
    """

    task: str
    floor: float
    bound: float


@dataclass(frozen=True)
class Choice:
    """Weights for a goal, and what they are predicted to do.

    Attributes:
        goal: `mean`, `worst` or task names separated by commas.
        weights: of every task, mean 1.
        keep_equal: whether no other guarded weights promise more; the weights are then all 1.
        gain: predicted change of the goal, in % of the scores at equal weights; of `worst` that of
            the task with the smallest.
        changes: predicted change of every scored task, averaged over many runs.
        guards: the guarded tasks.
        unguarded: tasks that cannot be guarded at this size, and why.
        headroom: what weights can do for the mean over the tasks that count.
        max_step: largest number of doublings that was allowed.
        warnings: what to know before using the weights.
    """

    goal: str
    weights: Mapping[str, float]
    keep_equal: bool
    gain: Interval
    changes: Mapping[str, Interval]
    guards: tuple[Guard, ...]
    unguarded: Mapping[str, str]
    headroom: Headroom
    max_step: float
    warnings: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What the weights are predicted to do for the goal."""
        if self.keep_equal:
            return (
                f"Keep equal weights: no other guarded weights raise {self._goal_words} by more"
                " than one standard error."
            )
        gain = self.gain
        return (
            f"These weights change {self._goal_words} by {gain.value:+.1f} %"
            f" [{gain.low:+.1f}, {gain.high:+.1f}]."
        )

    @property
    def _goal_words(self) -> str:
        words = {MEAN: "the mean over tasks", WORST: "the task that gains least"}
        several = "the mean of " if "," in self.goal else ""
        return words.get(self.goal, several + self.goal.replace(",", " and "))

    def ratios(self, reference: PerTask | None) -> dict[str, float] | None:
        """Sampling ratios that do the same, where trials differed in them; their sum is 1."""
        if reference is None:
            return None
        weights = np.array(list(self.weights.values()))
        sampled = weights * reference
        ratios = sampled / sampled.sum()
        return dict(zip(self.weights, ratios.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON; changes in %."""
        return {
            "goal": self.goal,
            "sentence": self.sentence,
            "weights": dict(self.weights),
            "keep_equal": self.keep_equal,
            "gain": self.gain.to_json(),
            "changes": {task: change.to_json() for task, change in self.changes.items()},
            "guards": [vars(guard) for guard in self.guards],
            "not_guarded": dict(self.unguarded),
            "headroom": self.headroom.to_json(),
            "max_step": self.max_step,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Problem:
    """What is maximised under which guards.

    Attributes:
        response: of the scores.
        shares: weight of every score in the goal, sum 1; of `worst`, equal where a score counts.
        worst: whether the goal is the smallest change instead of the mean.
        floors: index of a score -> its floor.
        margin: standard errors.
        max_step: in doublings.
    """

    response: Response
    shares: PerScore
    worst: bool
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
) -> Choice:
    """The weights with the best predicted goal among those that keep every guardrail.

    A guarded task's predicted change minus `margin` standard errors stays at or above its floor;
    equal weights always do. Weights that do not promise a gain of more than one standard error are
    not chosen: equal weights are kept.

    Args:
        response: from `fit_response`.
        goal: `mean` over the tasks that count, see `Response.counted`, `worst` (raise the smallest
            change of these), or names of tasks.
        floors: in % of the score, at most 0: one for all tasks that the goal does not name, or by
            task, with the key `*` for all others; None guards nothing.
        max_step: largest allowed doubling of a weight against the geometric mean of all.
        margin: in standard errors of the predicted change.

    Raises:
        CotbalError: `unknown-task`, `not-measurable` (a goal that is luck at this size),
            `infeasible-floor` (above 0), `not-positive` (max_step, margin).
    """
    names = _goal_names(response, goal)
    by_task = _floors(response, names, goal, floors)
    if not 0 < max_step < float("inf") or not margin >= 0:
        raise CotbalError(
            "expected max_step, in doublings, above 0 and margin, in standard errors, at least 0;"
            f" found {max_step:g} and {margin:g}",
            "not-positive",
        )
    counted = [name in names for name in response.scored]
    problem = Problem(
        response=response,
        shares=np.array(counted) / sum(counted),
        worst=goal == WORST,
        floors={response.scored.index(task): floor for task, floor in by_task.items()},
        margin=margin,
        max_step=max_step,
    )
    z = _inside(problem, _solve(problem))
    shares = _active(problem, z)
    gain = response.combined(z, shares)
    keep = gain.value - response.combined_error(z, shares) <= 0
    if keep:
        z = np.zeros_like(z)
        gain = response.combined(z, _active(problem, z))
    name = goal if isinstance(goal, str) else ",".join(goal)
    return _choice(problem, name, z, gain, keep)


def _goal_names(response: Response, goal: str | Sequence[str]) -> list[str]:
    """The tasks that count in the goal."""
    if goal in (MEAN, WORST):
        if not response.counted:
            raise CotbalError("no task is measurable with these trials", "not-measurable")
        return list(response.counted)
    names = [goal] if isinstance(goal, str) else list(goal)
    for name in names or [""]:
        if name in response.unmeasurable:
            raise CotbalError(
                f"goal: {name} is not measurable with these trials: {response.unmeasurable[name]}",
                "not-measurable",
            )
        if name not in response.scored:
            raise CotbalError(
                f"goal: expected mean, worst or tasks among {', '.join(response.scored)}; found"
                f" {name!r}{near(name, response.scored)}",
                "unknown-task",
            )
    return names


def _floors(
    response: Response,
    names: Sequence[str],
    goal: str | Sequence[str],
    floors: float | Mapping[str, float | None] | None,
) -> dict[str, float]:
    """Floor of every guarded task."""
    given = floors if isinstance(floors, Mapping) else {"*": floors}
    for task, floor in given.items():
        _check_floor(response, task, floor)
    in_goal = () if goal in (MEAN, WORST) else names
    chosen: dict[str, float] = {}
    for task in response.scored:
        guarded = task not in in_goal and task not in response.unmeasurable
        default = given.get("*") if guarded else None
        floor = given.get(task, default)
        if floor is not None:
            chosen[task] = float(floor)
    return chosen


def _check_floor(response: Response, task: str, floor: float | None) -> None:
    if task != "*" and task not in response.scored:
        raise CotbalError(
            f"floor: expected a task among {', '.join(response.scored)}; found"
            f" {task!r}{near(task, response.scored)}",
            "unknown-task",
        )
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
    if not problem.worst:
        program = Program(_functions(problem), rows, limits)
        return basis @ maximise(program, start)
    # One more variable: a level that no score of the goal may fall below.
    rows = np.pad(rows, ((0, 0), (0, 1)))
    program = Program(_functions_above_level(problem), rows, limits)
    point = maximise(program, np.append(start, -1.0))
    return basis @ point[:-1]


def _functions(problem: Problem) -> Smooth:
    """The predicted goal, and the distance of every guarded score from its floor."""
    guarded = list(problem.floors)
    floors = np.array(list(problem.floors.values()))

    def at(place: Place) -> Derivatives:
        local = problem.response.local(place)
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
    bend = np.einsum("ni,nj,n->nij", gradient, gradient, 1 / error)
    return error, gradient, hessian - bend


def _functions_above_level(problem: Problem) -> Smooth:
    """With the level as the last variable: the level itself, the distances of guarded scores from
    their floors, and those of the scores of the goal from the level.
    """
    functions = _functions(problem)
    goal = np.flatnonzero(problem.shares)

    def at(point: Point) -> Derivatives:
        place = point[:-1]
        level = point[-1]
        change = problem.response.local(place).change
        values, gradients, hessians = (
            np.concatenate([guards[1:], changes[goal]])
            for guards, changes in zip(functions(place), change, strict=True)
        )
        above = slice(len(values) - len(goal), None)
        values[above] -= level
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
    if not problem.worst:
        return problem.shares
    changes = problem.response.changes(z)
    counted = np.where(problem.shares > 0, changes, np.inf)
    smallest = counted.argmin()
    shares = np.zeros(len(changes))
    shares[smallest] = 1
    return shares


def _choice(problem: Problem, goal: str, z: PerTask, gain: Interval, keep: bool) -> Choice:
    response = problem.response
    weights = weights_at(z).tolist()
    guards = []
    for score, floor in problem.floors.items():
        guard = Guard(response.scored[score], floor, problem.bound(z, score))
        guards.append(guard)
    return Choice(
        goal=goal,
        weights=dict(zip(response.tasks, weights, strict=True)),
        keep_equal=keep,
        gain=gain,
        changes={task: response.prediction(z, task) for task in response.scored},
        guards=tuple(guards),
        unguarded=response.unmeasurable,
        headroom=headroom(response, problem.max_step),
        max_step=problem.max_step,
        warnings=tuple(_warnings(problem, z)),
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
