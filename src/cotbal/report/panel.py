"""The interactive panel of the report: the numbers from which its script predicts the change of
every score at the weights that the reader sets.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from cotbal.jobs.rundir import RunDir
from cotbal.report.contents import Contents
from cotbal.report.crowds import MANY
from cotbal.report.responses import MAX_STEP, Frozen, Measured
from cotbal.response import Response
from cotbal.response.choose import FLOOR
from cotbal.response.coordinates import doublings
from cotbal.response.response import UPPER
from cotbal.response.shapes import PerScore, PerTask
from cotbal.response.student import t_quantile
from cotbal.weightings.steer import method_for

DIGITS = 9  # of every number, so that the page agrees with the fit
STEPS = 1e6  # from 0 to the largest number of a covariance, which is written in whole steps
WIDEST = 3.0  # end of the scale of changes, in units of what is typical for a task
MEAN = "mean over tasks"


@dataclass(frozen=True)
class Target:
    """A row of the panel.

    Attributes:
        name: of a task, of a unit (a group of tasks), or of the mean.
        unit: number of its slider, or None.
        score: number of its prediction, or None.
        measurable: whether its score says anything at this size.
    """

    name: str
    unit: int | None
    score: int | None
    measurable: bool = True


@dataclass(frozen=True)
class Panel:
    """What the page holds for the panel.

    Attributes:
        rows: units and tasks; a task with a weight of its own has both in one row.
        presets: names of the weights that a button sets.
        data: for the script.
        limit: end of the sliders, in doublings.
        floor: that of every measurable task at first, in %.
    """

    rows: tuple[Target, ...]
    presets: tuple[str, ...]
    data: Mapping[str, Any]
    limit: float
    floor: float = FLOOR


def script() -> Markup:
    """The script of the panel, without its tags."""
    file = resources.files("cotbal.report") / "templates" / "panel.js"
    return Markup(file.read_text(encoding="utf-8"))


def script_hash() -> str:
    """What a Content-Security-Policy allows this one script by."""
    digest = hashlib.sha256(script().encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def panel_of(contents: Contents, measured: Measured) -> Panel | None:
    """The panel; None where nothing can be predicted, and of many tasks: its numbers grow with the
    cube of theirs.
    """
    response = measured.response
    if response is None or len(response.tasks) > MANY:
        return None
    if set(response.unmeasurable) >= set(response.scored):
        return None
    presets = [_preset(frozen, response, contents) for frozen in measured.predictions]
    known = [preset for preset in presets if preset is not None]
    start: dict[str, Any] = {"z": [0.0] * len(response.tasks), "floors": None}
    predictions = [_prediction(response, alone) for alone in np.eye(len(response.scored))]
    predictions.append(_prediction(response, _mean_shares(response)))
    places = [start, *(preset for _, preset in known)]
    data = {
        "lever": response.lever.one,
        "units": list(response.tasks),
        "tasks": list(_unit_of_task(contents, response).items()),
        "predictions": predictions,
        "share": _number(response.departure.share),
        "shareError": _number(response.departure.error),
        "reach": _number(response.reach),
        "scale": _number(_scale(response)),
        "presets": places,
        "command": _command(contents, measured),
    }
    names = (f"equal {response.lever.several}", *(goal for goal, _ in known))
    farthest = max(np.abs(preset["z"]).max() for preset in places)
    return Panel(tuple(_rows(response)), names, data, max(MAX_STEP, math.ceil(farthest)))


def _rows(response: Response) -> list[Target]:
    rows = []
    for i, unit in enumerate(response.tasks):
        score = response.scored.index(unit) if unit in response.scored else None
        rows.append(Target(unit, i, score, unit not in response.unmeasurable))
    for j, task in enumerate(response.scored):
        if task not in response.tasks:
            rows.append(Target(task, None, j, task not in response.unmeasurable))
    rows.append(Target(MEAN, None, len(response.scored)))
    return rows


def _prediction(response: Response, shares: PerScore) -> dict[str, Any]:
    """Effects, curvature and uncertainty of a weighted sum of scores, by doublings of the weights
    instead of directions, then the departure from equal weights.
    """
    covariance, freedom = response.combination(shares)
    tasks = len(response.tasks)
    directions = tasks - 1
    size = directions + response.curved
    lift = np.zeros((tasks + 1, size))
    lift[:tasks, :directions] = response.basis
    if response.curved:
        lift[tasks, directions] = 1
    lifted = lift @ covariance @ lift.T
    unit = max(np.abs(lifted).max(), np.finfo(float).tiny) / STEPS
    whole = np.rint(lifted / unit).astype(int)
    effects = response.effects @ shares
    return {
        "effects": [_number(value) for value in effects],
        "curvature": _number(response.curvature @ shares),
        "own": response.combined_departure(shares).is_own[0].tolist(),
        "covariance": whole[np.triu_indices(tasks + 1)].tolist(),
        "unit": float(unit),
        "t": _number(t_quantile(UPPER, freedom)),
    }


def _mean_shares(response: Response) -> PerScore:
    """Of the same tasks as the mean of `steer` and the headroom."""
    counted = np.array([name in response.counted for name in response.scored])
    return counted / counted.sum()


def _number(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _scale(response: Response) -> float:
    """End of the scale of changes in %: the largest that one slider makes, its interval included.

    A task far more uncertain than the others does not squeeze them: its marks end at the border.
    """
    counted = [name not in response.unmeasurable for name in response.scored]
    largest = np.zeros(sum(counted))
    for step in (1.0, -1.0):
        for move in step * np.eye(len(response.tasks)):
            z: PerTask = move - move.mean()
            reached = np.abs(response.changes(z)) + 2 * response.errors(z)
            largest = np.maximum(largest, reached[counted])
    typical = float(np.median(largest))
    return max(min(float(largest.max()), WIDEST * typical), 0.1)


def _preset(
    frozen: Frozen, response: Response, contents: Contents
) -> tuple[str, dict[str, Any]] | None:
    """The weights and floors of a prediction; None where it is about other tasks."""
    if set(frozen.weights) != set(response.tasks):
        return None
    weights = np.array([frozen.weights[unit] for unit in response.tasks])
    places = [_number(value) for value in doublings(weights)]
    floors = [frozen.floors.get(task) for task in response.scored]
    command = _command_for_goal(contents, method_for(frozen.goal))
    return frozen.goal, {"z": places, "floors": floors, "command": command}


def _unit_of_task(contents: Contents, response: Response) -> dict[str, str | None]:
    """Trained task -> the unit that it has its weight from; None: its weight is 1."""
    known = set(response.tasks)
    units: dict[str, str | None] = dict(response.unit_of_task)
    trained = [task for task in contents.tasks if task not in contents.only_evaluated]
    for task in trained:
        unit = contents.unit_of(task)
        units.setdefault(task, unit if unit in known else None)
    return units


def _command(contents: Contents, measured: Measured) -> str:
    """What trains with a file `weights.json`; empty where there is no recipe to train from."""
    files = RunDir(contents.directory)
    if not files.recipe.exists():
        return ""
    option = f"--{measured.lever.name}"
    directory = _short(contents.directory)
    return _train(directory, f"{option} weights.json", f"{directory}-steered")


def _command_for_goal(contents: Contents, method: str) -> str:
    """What trains with the weights that `cotbal steer` wrote for a goal, so that the report holds
    the model against their prediction; empty where they cannot be trained with.
    """
    files = RunDir(contents.directory)
    _, _, goal = method.partition(":")
    if not (files.recipe.exists() and files.steered(goal).exists()):
        return ""
    directory = _short(contents.directory)
    return _train(directory, f"--weighting {shlex.quote(method)}", directory)


def _train(directory: str, options: str, out: str) -> str:
    recipe = shlex.quote(f"{directory}/recipe.yaml")
    return f"cotbal train {recipe} {options} --out {shlex.quote(out)}"


def _short(directory: Path) -> str:
    """Relative to where the report is written, or the name alone: a path of one machine is
    private.
    """
    relative = os.path.relpath(directory)
    if relative.startswith(os.pardir) or relative == os.curdir:
        return directory.resolve().name
    return relative
