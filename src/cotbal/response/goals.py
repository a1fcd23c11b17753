"""Which tasks a goal names, and the floors of guarded ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cotbal.errors import CotbalError, near
from cotbal.response.choice import MEAN, WORST
from cotbal.response.response import Response


def goal_names(
    response: Response, goal: str | Sequence[str], single_task: Mapping[str, float]
) -> list[str]:
    """The tasks that count in the goal, in the order of the scores.

    Args:
        single_task: scores of single-task models; if there are any, tasks without one do not count.

    Raises:
        CotbalError: `unknown-task`, or `not-measurable`.
    """
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


def floors_of(
    response: Response,
    names: Sequence[str],
    goal: str | Sequence[str],
    floors: float | Mapping[str, float | None] | None,
) -> dict[str, float]:
    """Floor of every guarded task, in % of its score.

    A task that is not measurable is guarded only where a floor names it.

    Args:
        names: tasks of the goal.
        goal: as `choose_weights` gets it.
        floors: the same.

    Raises:
        CotbalError: `unknown-task`, or `infeasible-floor`.
    """
    given = _by_task(response, floors)
    in_goal = () if goal in (MEAN, WORST) else names
    chosen: dict[str, float] = {}
    for task in response.scored:
        guarded = task not in in_goal and task not in response.unmeasurable
        default = given.get("*") if guarded else None
        floor = given.get(task, default)
        if floor is not None:
            chosen[task] = float(floor)
    return chosen


def not_lowered(
    response: Response,
    guarded: Collection[str],
    floors: float | Mapping[str, float | None] | None,
) -> frozenset[str]:
    """The tasks (or groups) whose weight must not be lowered: a floor would guard them or one of
    their tasks, but it is not measurable, so that no prediction shows what it would lose.

    Args:
        guarded: tasks that have a floor.
        floors: as `choose_weights` gets it; None for a task, or for all, allows everything.
    """
    given = _by_task(response, floors)
    units = set()
    for task in response.unmeasurable:
        is_free = given.get(task, given.get("*")) is None
        if task in response.unit_of_task and task not in guarded and not is_free:
            units.add(response.unit_of_task[task])
    return frozenset(units)


def _by_task(
    response: Response, floors: float | Mapping[str, float | None] | None
) -> dict[str, float | None]:
    """Floors of single tasks, and of `*`, all others."""
    given: dict[str, float | None] = {}
    for name, floor in (floors if isinstance(floors, Mapping) else {"*": floors}).items():
        _check_floor(name, floor)
        expected = f"floor: expected a task among {', '.join(response.scored)}"
        members = ["*"] if name == "*" else _members(response, name, expected)
        given |= dict.fromkeys(members, floor)
    return given


def _check_floor(task: str, floor: float | None) -> None:
    if floor is not None and not floor <= 0:
        name = "all tasks" if task == "*" else task
        raise CotbalError(
            f"floor of {name}: expected at most 0 %, which equal"
            f" weights keep; found {floor:+g} %. To raise a task, name it in the goal",
            "infeasible-floor",
        )
