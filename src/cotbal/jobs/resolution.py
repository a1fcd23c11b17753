"""What planned trials can show: the smallest effect of a weight that they would find."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from cotbal.errors import CotbalError
from cotbal.jobs.plan import Prepared
from cotbal.jobs.response import design_of, fraction_of, read_response
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.scoring import read_scores_file
from cotbal.recipe.mixture import Task
from cotbal.response.lever import LEVERS, Lever
from cotbal.response.noise import moderated_noise
from cotbal.training.run_paths import RunPaths

# Noise of one run on `pocket`, median over tasks, in % of the score: 13 with 78 optimizer steps, 2
# with 1,000. Between them it is taken to follow a power of the number of steps.
LONG_NOISE, SHORT, LONG, EXPONENT = 2.0, 78, 1000, 0.75

Noise = dict[str, float]  # task -> standard deviation of one run, in % of its score


@dataclass(frozen=True)
class Resolution:
    """What planned trials can show.

    Attributes:
        lever: what differs between trials.
        trials: their number, design and seeds in words.
        noise: scored task -> standard deviation of one run, in % of its score.
        source: where the noise is from.
        slopes: scored task -> smallest effect of doubling a weight or ratio that a 95 % interval
            excludes from 0 with probability 0.8, in % of its score.
        remarks: what these trials cannot separate, and what a fraction of the data loses.
    """

    lever: Lever
    trials: str
    noise: Mapping[str, float]
    source: str
    slopes: Mapping[str, float]
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As `cotbal plan --trials --json` prints it."""
        return {**vars(self), "lever": self.lever.name, "remarks": list(self.remarks)}


def resolution(prepared: Prepared) -> Resolution:
    """What the trials of a recipe can show, with the noise that the run directory knows."""
    recipe = prepared.recipe
    design, scored = design_of(recipe), recipe.mixture.scored
    settings = recipe.file.optimization
    first = next(p for p in prepared.plan.runs if p.kind == "trial")
    records = first.records * settings.epochs
    steps = math.ceil(records / settings.batch_size)
    noise, source = _noise(prepared.root, scored, steps)
    of_unit = dict(zip(design.tasks, design.detectable(noise=1.0).tolist(), strict=True))
    coarsest = max(of_unit.values())
    lever = LEVERS[recipe.file.response.lever]
    return Resolution(
        lever=lever,
        trials=f"{design.described(lever)}; optimizer steps of each: {steps}",
        noise=noise,
        source=source,
        slopes={task.name: noise[task.name] * of_unit.get(task.unit, coarsest) for task in scored},
        remarks=(design.aliasing, *_loss(prepared)),
    )


def _loss(prepared: Prepared) -> list[str]:
    """What trials on a fraction of the data lose against full ones."""
    design = design_of(prepared.recipe)
    fraction = fraction_of(prepared.recipe, design)
    if fraction == 1:
        return []
    return [
        f"trials on {fraction} of the data show the direction of an effect rather than its size,"
        f" and cannot measure a skill that appears later; --fraction 1 costs {len(design.seeds)} x"
        " the final run"
    ]


def typical_noise(steps: int) -> float:
    """Noise of one run of so many optimizer steps, in % of the score, before anything is known."""
    within = min(max(steps, SHORT), LONG)
    return LONG_NOISE * (LONG / within) ** EXPONENT


def _noise(root: RunDir, scored: tuple[Task, ...], steps: int) -> tuple[Noise, str]:
    """The noise of one run, and where it is from: earlier trials, runs that were trained with
    several seeds, or an assumption.
    """
    if root.trial_table.exists():
        with suppress(CotbalError):  # a table that cannot be fitted says nothing about noise
            response = read_response(root)
            known = dict(zip(response.scored, response.noise.tolist(), strict=True))
            return _completed(known, scored), "noise of one run: from the trials so far"
    known, repeated = _repeated(root, scored)
    if not known:
        typical = typical_noise(steps)
        return {task.name: typical for task in scored}, (
            f"noise of one run: assumed to be {typical:.0f} % of the score, as in runs"
            " of such a length on `pocket`; no run of this directory was trained twice"
        )
    return _completed(known, scored), (
        f"noise of one run: from the seeds of {', '.join(repeated)}, which saw another fraction of"
        " the data"
    )


def _completed(known: Noise, scored: tuple[Task, ...]) -> Noise:
    """The noise of all scored tasks: that of the median task where it is not known."""
    typical = median(known.values())
    return {task.name: known.get(task.name, typical) for task in scored}


def _repeated(root: RunDir, scored: tuple[Task, ...]) -> tuple[Noise, list[str]]:
    """The noise from finished runs that differ in nothing but their training seed, and their
    names.
    """
    groups: dict[str, list[RunPaths]] = defaultdict(list)
    if root.plan.exists():
        for entry in root.planned():
            paths = RunPaths(root.root / entry["directory"])
            groups[entry["name"]].append(paths)
    squares: dict[str, float] = defaultdict(float)
    freedom: dict[str, int] = defaultdict(int)
    names: dict[str, None] = {}
    for name, runs in groups.items():
        for task in scored:
            scores = np.array(_scores(runs, task))
            if len(scores) > 1 and scores.any():
                changes = 100 * (scores / scores.mean() - 1)
                squares[task.name] += float((changes**2).sum())
                freedom[task.name] += len(scores) - 1
                names[name] = None
    if not squares:
        return {}, []
    sums = np.array(list(squares.values()))
    deviations = moderated_noise(sums, min(freedom.values())).deviation.tolist()
    return dict(zip(squares, deviations, strict=True)), list(names)


def _scores(runs: list[RunPaths], task: Task) -> list[float]:
    """Validation scores of the runs that have one."""
    scores = []
    for paths in runs:
        metrics = read_scores_file(paths, task.name, "validation")["metrics"]
        if paths.done and task.metric in metrics:
            scores.append(float(metrics[task.metric]["score"]))
    return scores
