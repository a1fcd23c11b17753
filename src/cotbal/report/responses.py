"""The response of a run directory: its trials, what they say about weights, and how predictions
that were frozen before final trainings came out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cotbal.data.files import read_json
from cotbal.errors import CotbalError, ScoresError
from cotbal.jobs.rundir import RunDir
from cotbal.report.comparison import BASELINE, Scores
from cotbal.report.contents import Contents, RunContents
from cotbal.response import Response, Trials, compare_with_outcomes, fit_response, read_trials
from cotbal.response import read_prediction
from cotbal.response.headroom import Headroom, headroom
from cotbal.response.prediction import Verdict
from cotbal.scores.interval import Interval

STEER = "steer"
MAX_STEP = 1.0  # doublings within which the headroom is stated
SAME = 1e-3  # relative difference of weights that were rounded


@dataclass(frozen=True)
class Frozen:
    """A prediction that `cotbal steer` wrote, and what came out.

    Attributes:
        goal: as it was given.
        date: when it was written.
        weights: of every unit.
        changes: predicted change of every task, averaged over many runs.
        floors: of the guarded tasks, in %.
        seeds: with which both the steered weights and equal weights were trained.
        verdict: prediction against outcome; None without such seeds.
        problem: why models were not compared, or an empty text.
    """

    goal: str
    date: str
    weights: Mapping[str, float]
    changes: Mapping[str, Interval]
    floors: Mapping[str, float]
    seeds: tuple[int, ...] = ()
    verdict: Verdict | None = None
    problem: str = ""


@dataclass(frozen=True)
class Measured:
    """Trials and what they say.

    Attributes:
        trials: the table.
        response: None where the table does not determine it.
        problem: why it does not, or an empty text.
        design: of the trials, as planned; empty for a table of other origin.
        unit_of: task -> the unit that gives it its weight.
        predictions: by goal.
        unreadable: why prediction files were left out.
    """

    trials: Trials
    response: Response | None
    problem: str
    design: Mapping[str, Any]
    unit_of: Mapping[str, str]
    predictions: tuple[Frozen, ...]
    unreadable: tuple[str, ...]

    @cached_property
    def headroom(self) -> Headroom | None:
        """What weights can do for the mean."""
        return headroom(self.response, MAX_STEP) if self.response else None

    def is_own(self, unit: str, task: str) -> bool:
        """Whether `unit` gives `task` its weight."""
        return self.unit_of.get(task) == unit


def measured_response(contents: Contents) -> Measured | None:
    """The response of a run directory; None where there is no table of trials."""
    files = RunDir(contents.directory)
    if not files.trial_table.exists():
        return None
    trials = read_trials(files.trial_table)
    response, problem = None, ""
    try:
        response = fit_response(trials)
    except ScoresError as error:
        problem = str(error)
    predictions, unreadable = [], []
    for path in sorted(files.trial_table.parent.glob("prediction-*.json")):
        try:
            predictions.append(_frozen(contents, path))
        except CotbalError as error:
            unreadable.append(str(error))
    known = set(contents.tasks)
    unit_of = {task: contents.unit_of(task) if task in known else task for task in trials.scored}
    return Measured(
        trials=trials,
        response=response,
        problem=problem,
        design=read_json(files.design) if files.design.exists() else {},
        unit_of=unit_of,
        predictions=tuple(predictions),
        unreadable=tuple(unreadable),
    )


def _frozen(contents: Contents, path: Path) -> Frozen:
    content = read_prediction(path)
    weights: Mapping[str, float] = content["weights"]
    changes = {}
    for task, entry in content["predictions"].items():
        low, high = entry["interval"]
        changes[task] = Interval(entry["value"], low, high)
    pairs, problem = _pairs(contents, content["goal"], weights)
    outcomes = _outcomes(contents, pairs, list(changes))
    return Frozen(
        goal=content["goal"],
        date=content["date"],
        weights=weights,
        changes=changes,
        floors={guard["task"]: guard["floor"] for guard in content["guards"]},
        seeds=tuple(sorted(pairs)),
        verdict=compare_with_outcomes(content, outcomes) if outcomes else None,
        problem=problem,
    )


def method_of(goal: str) -> str:
    """The method that trains the weights of a goal, such as `steer:ocr+grounding`."""
    return f"{STEER}:{goal.replace(',', '+')}"


def _pairs(
    contents: Contents, goal: str, weights: Mapping[str, float]
) -> tuple[dict[int, tuple[Scores, Scores]], str]:
    """Training seed -> scores of the steered and the equal weights; and why models are left out."""
    names = {method_of(goal), STEER} if goal == "mean" else {method_of(goal)}
    done = [run for run in contents.finals if run.status == "done"]
    steered = [run for run in done if run.name in names]
    equal = {contents.seed_of(run): run.scores for run in done if run.name == BASELINE}
    same = [run for run in steered if _trained_with(contents, run, weights)]
    pairs = {}
    for run in same:
        seed = contents.seed_of(run)
        if seed in equal:
            pairs[seed] = (run.scores, equal[seed])
    if len(same) < len(steered):
        return pairs, "Models that were trained with other weights than these are left out."
    if same and not pairs:
        return pairs, "No model with equal weights (EW) was trained with the same seed."
    return pairs, ""


def _trained_with(contents: Contents, run: RunContents, weights: Mapping[str, float]) -> bool:
    """Whether a model was trained with weights in these proportions."""
    factors = []
    for task, weight in run.weights.items():
        unit = contents.unit_of(task)
        if unit in weights:
            factors.append(weight / weights[unit])
    return not factors or max(factors) < (1 + SAME) * min(factors)


def _outcomes(
    contents: Contents,
    pairs: Mapping[int, tuple[Scores, Scores]],
    tasks: Sequence[str],
) -> dict[str, list[float]]:
    """Task -> relative change of its test score in %, one per seed; tasks that every seed has."""
    outcomes = {}
    for task in tasks:
        changes = [_change(contents, task, *scores) for scores in pairs.values()]
        known = [change for change in changes if change is not None]
        if known and len(known) == len(changes):
            outcomes[task] = known
    return outcomes


def _change(contents: Contents, task: str, steered: Scores, equal: Scores) -> float | None:
    """Mean over the test splits; None where a score of equal weights is not above 0."""
    changes = []
    for (name, split), scores in equal.items():
        if name != task or split == "validation" or (name, split) not in steered:
            continue
        metric = contents.metric_of(scores)
        before = scores.metrics[metric].measured.score
        after = steered[name, split].metrics[metric].measured.score
        if not before > 0:
            return None
        changes.append(100 * (after / before - 1))
    return float(np.mean(changes)) if changes else None
