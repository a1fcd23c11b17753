"""The response of a run directory: its trials, what they say about weights, and how predictions
that were frozen before final trainings came out.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cotbal.data.files import as_written, read_json
from cotbal.errors import CotbalError
from cotbal.jobs.rundir import RunDir, name_part, ratios_run
from cotbal.report.comparison import BASELINE, Scores
from cotbal.report.contents import Contents, RunContents
from cotbal.response import Response, compare_with_outcomes, read_prediction
from cotbal.response.choice import MEAN
from cotbal.response.headroom import Headroom, headroom
from cotbal.response.lever import LEVERS, RATIOS, WEIGHTS, Lever
from cotbal.response.prediction import Verdict
from cotbal.scores.interval import TRAINING, Interval
from cotbal.weightings.steer import STEER, method_for

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
        lever: what the weights are.
        seeds: with which both the steered weights and equal weights were trained.
        verdict: prediction against outcome; None without such seeds.
        problem: why models were not compared, or an empty text.
    """

    goal: str
    date: str
    weights: Mapping[str, float]
    changes: Mapping[str, Interval]
    floors: Mapping[str, float]
    lever: Lever
    seeds: tuple[int, ...] = ()
    verdict: Verdict | None = None
    problem: str = ""


@dataclass(frozen=True)
class Measured:
    """Trials and what they say.

    Attributes:
        response: None where the trials do not determine it.
        problem: why they do not, or an empty text.
        design: of the trials, as planned; empty for a table of other origin.
        predictions: by goal.
        unreadable: why prediction files were left out.
    """

    response: Response | None
    problem: str
    design: Mapping[str, Any]
    predictions: tuple[Frozen, ...]
    unreadable: tuple[str, ...]

    @cached_property
    def headroom(self) -> Headroom | None:
        """What weights can do for the mean."""
        return headroom(self.response, MAX_STEP) if self.response else None

    @property
    def lever(self) -> Lever:
        """What the trials differed in."""
        if "lever" in self.design or self.response is None:
            return LEVERS[self.design.get("lever", WEIGHTS.name)]
        return self.response.lever


def measured_response(contents: Contents) -> Measured | None:
    """The response of a run directory; None where there is no table of trials."""
    files = RunDir(contents.directory)
    if not files.trial_table.exists():
        return None
    from cotbal.jobs.response import read_response  # imports what plans and executes trials

    response, problem = None, ""
    try:
        response = read_response(files)
    except CotbalError as error:
        problem = str(error)
    design = _design(files)
    predictions, unreadable = [], []
    for path in sorted(files.trial_table.parent.glob("prediction-*.json")):
        try:
            predictions.append(_frozen(contents, path, design.get("lever", WEIGHTS.name)))
        except CotbalError as error:
            unreadable.append(str(error))
    return Measured(
        response=response,
        problem=problem,
        design=design,
        predictions=tuple(predictions),
        unreadable=tuple(unreadable),
    )


def _design(files: RunDir) -> dict[str, Any]:
    """The design as it was planned; empty for a table of other origin."""
    if not files.design.exists():
        return {}
    with as_written(files.design):
        design: dict[str, Any] = read_json(files.design)
        if design.get("lever", WEIGHTS.name) not in LEVERS:
            raise ValueError("there is no such lever")
    return design


def _frozen(contents: Contents, path: Path, lever: str) -> Frozen:
    """A prediction and its outcome; `lever` is that of the trials, for files that do not hold
    theirs.
    """
    content = read_prediction(path)
    weights: Mapping[str, float] = content["weights"]
    changes = {}
    for task, entry in content["predictions"].items():
        low, high = entry["interval"]
        changes[task] = Interval(entry["value"], low, high, TRAINING)
    of_file = LEVERS[content.get("lever", lever)]
    by_ratios = of_file is RATIOS
    steered = _done(contents, methods_of(content["goal"], by_ratios))
    of_lever = [run for run in steered if bool(run.ratios) == by_ratios]
    pairs, problem = _pairs(contents, of_lever, weights)
    outcomes = _outcomes(contents, pairs, list(changes))
    return Frozen(
        goal=content["goal"],
        date=content["date"],
        weights=weights,
        changes=changes,
        lever=of_file,
        floors={guard["task"]: guard["floor"] for guard in content["guards"]},
        seeds=tuple(sorted(pairs)),
        verdict=compare_with_outcomes(content, outcomes) if outcomes else None,
        problem=problem,
    )


def methods_of(goal: str, by_ratios: bool) -> list[str]:
    """Names of final runs with the weights (or ratios) of a goal, such as `steer:ocr+grounding`:
    first the one that counts where a seed has several.
    """
    names = [method_for(goal), *([STEER] if goal == MEAN else [])]
    variant = name_part(goal.replace(",", "+"))
    return [*names, ratios_run(variant)] if by_ratios else names


def _pairs(
    contents: Contents, steered: Sequence[RunContents], weights: Mapping[str, float]
) -> tuple[dict[int, tuple[Scores, Scores]], str]:
    """Training seed -> scores of the steered and the equal weights; and why models are left out."""
    same = [run for run in steered if _trained_with(contents, run, weights)]
    equal = {contents.seed_of(run): run.scores for run in _done(contents, [BASELINE])}
    pairs: dict[int, tuple[Scores, Scores]] = {}
    for run in same:
        seed = contents.seed_of(run)
        if seed in equal:
            pairs.setdefault(seed, (run.scores, equal[seed]))
    if len(same) < len(steered):
        return pairs, "Models that were trained with other weights than these are left out."
    if same and not pairs:
        return pairs, "No model with equal weights (EW) was trained with the same seed."
    return pairs, ""


def _done(contents: Contents, names: Sequence[str]) -> list[RunContents]:
    """The finished final models of some methods, in the order of the names."""
    done = [run for run in contents.finals if run.name in names and run.status == "done"]
    return sorted(done, key=lambda run: names.index(run.name))


def _trained_with(contents: Contents, run: RunContents, weights: Mapping[str, float]) -> bool:
    """Whether a model was trained with weights, or ratios, in these proportions."""
    factors = []
    trained = run.ratios or run.weights
    for task, weight in trained.items():
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
        before = scores.metrics.get(metric)
        after = steered[name, split].metrics.get(metric)
        if before is None or after is None or not before.measured.score > 0:
            return None
        relative = after.measured.score / before.measured.score - 1
        changes.append(100 * relative)
    return float(np.mean(changes)) if changes else None


def to_csv(response: Response) -> str:
    """Effect of every weight on every score with its interval, one line each; in %."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["weight", "score", "effect", "low", "high", "own", "measurable"])
    for unit in response.tasks:
        for task in response.scored:
            effect = response.effect(unit, task)
            is_own = response.unit_of_task.get(task) == unit
            measurable = task not in response.unmeasurable
            bounds = [f"{value:.4f}" for value in (effect.value, effect.low, effect.high)]
            writer.writerow([unit, task, *bounds, int(is_own), int(measurable)])
    return text.getvalue()


def to_json(measured: Measured) -> dict[str, Any]:
    """Every estimate with its interval, headroom, design, and predictions with their outcomes."""
    return {
        "design": dict(measured.design),
        "headroom": measured.headroom.to_json() if measured.headroom else None,
        "response": measured.response.to_json() if measured.response else None,
        "predictions": [_prediction_json(frozen) for frozen in measured.predictions],
    }


def _prediction_json(frozen: Frozen) -> dict[str, Any]:
    verdict = frozen.verdict
    outcomes = {}
    for outcome in verdict.outcomes if verdict else ():
        outcomes[outcome.task] = {
            "predicted": outcome.predicted.to_json(),
            "observed": outcome.observed,
            "inside": outcome.inside,
        }
    correlation = verdict.correlation if verdict else math.nan
    return {
        "goal": frozen.goal,
        "date": frozen.date,
        "weights": dict(frozen.weights),
        "seeds": list(frozen.seeds),
        "outcomes": outcomes,
        "coverage": verdict.coverage if verdict else None,
        "correlation": None if math.isnan(correlation) else correlation,
    }
