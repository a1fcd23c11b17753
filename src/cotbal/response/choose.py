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
from cotbal.response.shapes import PerScore, PerTask
from cotbal.response.solver import Derivatives, Program, Smooth, maximise
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
        headroom: what weights can do for the mean over all tasks.
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
        ratios = np.array(list(self.weights.values())) * reference
        return dict(zip(self.weights, (ratios / ratios.sum()).tolist(), strict=True))

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
        response = self.response
        return float(response.changes(z)[score] - self.margin * response.errors(z)[score])

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
        goal: `mean` over all tasks, `worst` (raise the smallest change), or names of tasks.
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
        response,
        np.array(counted) / sum(counted),
        goal == WORST,
        {response.scored.index(task): floor for task, floor in by_task.items()},
        margin,
        max_step,
    )
    z = _inside(problem, _solve(problem))
    gain = _gain(problem, z)
    keep = gain.value - _error(problem, z) <= 0
    if keep:
        z = np.zeros_like(z)
        gain = _gain(problem, z)
    return _choice(problem, goal if isinstance(goal, str) else ",".join(goal), z, gain, keep)


def _goal_names(response: Response, goal: str | Sequence[str]) -> list[str]:
    """The tasks that count in the goal."""
    measurable = [name for name in response.scored if name not in response.unmeasurable]
    if goal in (MEAN, WORST):
        if not measurable:
            raise CotbalError("no task is measurable with these trials", "not-measurable")
        return measurable
    names = [goal] if isinstance(goal, str) else list(goal)
    for name in names or [""]:
        if name not in response.scored:
            raise CotbalError(
                f"goal: expected mean, worst or tasks among {', '.join(response.scored)}; found"
                f" {name!r}{near(name, response.scored)}",
                "unknown-task",
            )
        if name in response.unmeasurable:
            raise CotbalError(
                f"goal: {name} is not measurable with these trials: {response.unmeasurable[name]}",
                "not-measurable",
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
        floor = given.get(task, given.get("*") if guarded else None)
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
        raise CotbalError(
            f"floor of {'all tasks' if task == '*' else task}: expected at most 0 %, which equal"
            f" weights keep; found {floor:+g} %. To raise a task, name it in the goal",
            "infeasible-floor",
        )


def _solve(problem: Problem) -> PerTask:
    basis = problem.response.basis
    rows = np.concatenate([basis, -basis])
    limits = np.full(len(rows), problem.max_step)
    start = np.zeros(basis.shape[1])
    if not problem.worst:
        return basis @ maximise(Program(_functions(problem), rows, limits), start)
    # One more variable: a level that no score of the goal may fall below.
    rows = np.pad(rows, ((0, 0), (0, 1)))
    program = Program(_functions_above_level(problem), rows, limits)
    return basis @ maximise(program, np.append(start, -1.0))[:-1]


def _functions(problem: Problem) -> Smooth:
    """The predicted goal, and the distance of every guarded score from its floor."""
    scores = list(problem.floors)
    floors = np.array([problem.floors[score] for score in scores])

    def at(place: np.ndarray) -> Derivatives:
        local = problem.response.local(place)
        value, first, second = (part[scores] for part in local.variance)
        error = np.sqrt(value + SMOOTH**2)
        first = first / (2 * error[:, None])
        second = second / (2 * error[:, None, None])
        second = second - np.einsum("ni,nj,n->nij", first, first, 1 / error)
        margins = (
            problem.margin * (error - SMOOTH) + floors - SLACK,
            problem.margin * first,
            problem.margin * second,
        )
        goal = [np.tensordot(problem.shares, change, 1)[None] for change in local.change]
        distances = [
            change[scores] - margin for change, margin in zip(local.change, margins, strict=True)
        ]
        value, first, second = map(np.concatenate, zip(goal, distances, strict=True))
        return value, first, second

    return at


def _functions_above_level(problem: Problem) -> Smooth:
    """With the level as the last variable: the level itself, the distances of guarded scores from
    their floors, and those of the scores of the goal from the level.
    """
    guarded, goal = _functions(problem), np.flatnonzero(problem.shares)

    def at(point: np.ndarray) -> Derivatives:
        place, level = point[:-1], point[-1]
        parts = [guarded(place), problem.response.local(place).change]
        values = np.concatenate([[level], parts[0][0][1:], parts[1][0][goal] - level])
        first = np.zeros((len(values), len(point)))
        first[0, -1] = 1
        first[1:, :-1] = np.concatenate([parts[0][1][1:], parts[1][1][goal]])
        first[len(values) - len(goal) :, -1] = -1
        second = np.zeros((len(values), len(point), len(point)))
        second[1:, :-1, :-1] = np.concatenate([parts[0][2][1:], parts[1][2][goal]])
        return values, first, second

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
    counted = np.where(problem.shares > 0, problem.response.changes(z), np.inf)
    return np.eye(len(counted))[int(counted.argmin())]


def _gain(problem: Problem, z: PerTask) -> Interval:
    return problem.response.combined(z, _active(problem, z))


def _error(problem: Problem, z: PerTask) -> float:
    shares, response = _active(problem, z), problem.response
    return response.combined_error(z, shares)


def _choice(problem: Problem, goal: str, z: PerTask, gain: Interval, keep: bool) -> Choice:
    response = problem.response
    guards = tuple(
        Guard(response.scored[score], floor, problem.bound(z, score))
        for score, floor in problem.floors.items()
    )
    return Choice(
        goal,
        dict(zip(response.tasks, weights_at(z).tolist(), strict=True)),
        keep,
        gain,
        {task: response.prediction(z, task) for task in response.scored},
        guards,
        response.unmeasurable,
        headroom(response, problem.max_step),
        problem.max_step,
        tuple(_warnings(problem, z)),
    )


def _warnings(problem: Problem, z: PerTask) -> list[str]:
    response, warnings = problem.response, []
    if not response.curved:
        warnings.append(
            "no curvature was estimated: predictions far from equal weights are too good"
        )
    if np.abs(z).max() > 1.2 * response.reach:
        warnings.append(
            f"the chosen weights are up to {np.abs(z).max():.2f} doublings from equal weights, the"
            f" trials at most {response.reach:.2f}: the prediction is an extrapolation"
        )
    return warnings
