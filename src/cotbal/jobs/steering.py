"""Weights for a goal from the trials of a run directory: chosen, written with a frozen prediction,
and given to final trainings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cotbal.data.files import archive, locked, read_json, write_json, write_sealed, write_text
from cotbal.errors import CotbalError, RunError, near
from cotbal.jobs.inputs import differences
from cotbal.jobs.plan import Kind, Planned, Prepared, make_plan
from cotbal.jobs.response import as_planned, read_response, trials
from cotbal.jobs.rundir import RunDir, name_part, ratios_run
from cotbal.jobs.single_task import SingleTask, single_task_scores
from cotbal.jobs.weigh import task_weights
from cotbal.recipe.mixture import Mixture
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import UNTRAINED_TRIAL, Run
from cotbal.response import (
    Choice,
    Response,
    choose_weights,
    fit_response,
    freeze,
    read_prediction,
    read_trials,
)
from cotbal.response.choice import MEAN, WORST
from cotbal.response.choose import FLOOR
from cotbal.response.finals import finals_table
from cotbal.response.lever import RATIOS
from cotbal.response.prediction import is_same
from cotbal.scores.weights_file import read_weights
from cotbal.weightings.sampling import SAMPLING, exponent_of
from cotbal.weightings.steer import STEER, method_for

OF_THE_TRIAL = ("weights", "run.seed", "run.ratios")  # what trials of one recipe differ in
FINAL_SEEDS = 5  # of the table for final models
Floors = Mapping[str, float | None]


@dataclass(frozen=True)
class Steered:
    """Weights that were chosen from the trials of a run directory.

    Attributes:
        response: of the scores to the weights.
        choice: the weights, and what they are predicted to do.
        compared: what the goal `worst` compares with; None for other goals.
    """

    response: Response
    choice: Choice
    compared: SingleTask | None = None


def method_of(mixture: Mixture, name: str) -> str:
    """The one name of a method: `steer` is `steer:mean`, `steer:vqa,ocr` is `steer:ocr+vqa`, tasks
    in the order of the mixture and groups by their tasks, and `sampling:.50` is `sampling:0.5`.
    Other methods keep their names.

    Raises:
        CotbalError: the goal is not mean, worst or tasks with a validation set, or the exponent of
            temperature sampling is none.
    """
    method, _, variant = name.partition(":")
    if method == SAMPLING and variant:
        return f"{SAMPLING}:{exponent_of(variant):g}"
    return _steered_method(mixture, name, variant) if method == STEER else name


def _steered_method(mixture: Mixture, name: str, goal: str) -> str:
    if goal in ("", MEAN, WORST):
        return f"{STEER}:{goal or MEAN}"
    scored = [task.name for task in mixture.scored]
    wanted: list[str] = []
    for part in re.split(r"\s*[+,]\s*", goal.strip()):
        members = [part] if part in scored else [task.name for task in mixture.members(part)]
        if not members:
            raise CotbalError(
                f"{name}: expected the goal mean, worst or tasks among {', '.join(scored)}; found"
                f" {part!r}{near(part, scored)}",
                "unknown-task",
            )
        wanted += members
    return method_for(",".join(task for task in scored if task in wanted))


def method_of_file(root: RunDir, weights: Path) -> str | None:
    """The method whose weights a file of the run directory holds; None for any other file."""
    goal = weights.stem.removeprefix("weights-")
    is_steered_file = weights.resolve() == root.steered(goal).resolve()
    return method_for(goal) if is_steered_file else None


def is_steered(method: str) -> bool:
    """Whether a method trains with weights for a goal."""
    return method.partition(":")[0] == STEER


def trials_for(
    recipe: Recipe, root: RunDir, methods: Sequence[str]
) -> tuple[Recipe, list[tuple[Run, Kind]]]:
    """The trials that steered methods need, and the recipe with their design.

    None where no method is steered, or all weights were chosen from a table of other origin.
    """
    files = [root.steered(_goal(method)) for method in methods if is_steered(method)]
    if not files or (all(file.exists() for file in files) and not root.design.exists()):
        return recipe, []
    recipe = as_planned(recipe, root)
    return recipe, trials(recipe)


def choose(
    root: RunDir, goal: str | Sequence[str], floors: Floors, max_step: float = 1.0
) -> Steered:
    """Weights for a goal from the finished trials of a run directory.

    Raises:
        RunError: there are no finished trials, or not all are of one recipe.
        CotbalError: the trials do not say what weights do, or the goal or a floor is not possible.
    """
    _need_one_recipe(root)
    response = read_response(root)
    compared = single_task_scores(root, response) if goal == WORST else None
    alone = compared.scores if compared else None
    choice = choose_weights(response, goal, floors, max_step, single_task=alone)
    return Steered(response, choice, compared)


def _need_one_recipe(root: RunDir) -> None:
    """Check that trials differ in nothing but weights, ratios and seeds."""
    first: Mapping[str, Any] | None = None
    trained = [paths for paths in root.trials if paths != root.trial(UNTRAINED_TRIAL)]
    for paths in trained:
        if not paths.job.exists():
            continue
        identity = read_json(paths.job)["identity"]
        rest = {key: value for key, value in identity.items() if key not in OF_THE_TRIAL}
        first = rest if first is None else first
        if changed := differences(first, rest):
            raise RunError(
                f"{paths.root}: expected trials of one recipe and the same data; this one differs"
                f" from {trained[0].root.name} in {changed[0]}: archive and rerun such trials"
                " with `cotbal response RECIPE --restart-changed`",
                "mixed-trials",
            )


@dataclass(frozen=True)
class ChoiceFiles:
    """What a choice was written to.

    Attributes:
        weights: `weights-<goal>.json`.
        prediction: `prediction-<goal>.json`, which final models are held against.
        finals: the table of final models of another trainer, to be filled in.
    """

    weights: Path
    prediction: Path
    finals: Path | None = None

    def by_title(self) -> dict[str, str]:
        """Title -> path of what there is, for users."""
        paths = {
            "Weights": self.weights,
            "Prediction": self.prediction,
            "Final models": self.finals,
        }
        return {title: str(path) for title, path in paths.items() if path is not None}


def _write_choice(
    out: Path, steered: Steered, mixture: Mixture | None = None, may_replace: bool = False
) -> ChoiceFiles:
    """Write `weights-<goal>.json` and the frozen `prediction-<goal>.json`.

    Args:
        out: the directory.
        steered: the choice.
        mixture: whose tasks get the weights of their units; by default units are tasks.
        may_replace: whether another prediction for this goal is archived; otherwise it is an error.

    Raises:
        CotbalError: `prediction-exists`.
    """
    response, choice = steered.response, steered.choice
    name = _file_part(choice.goal)
    weights, prediction = out / f"weights-{name}.json", out / f"prediction-{name}.json"
    content = freeze(response, choice)
    if prediction.exists():
        _settle(prediction, weights, content, may_replace)
    if not prediction.exists():
        write_json(prediction, content)
    multipliers = dict(choice.weights)
    of_tasks = task_weights(mixture, multipliers) if mixture else multipliers
    written: dict[str, Any] = {"weights": multipliers, "tasks": of_tasks}
    if choice.lever is RATIOS:
        written["lever"] = RATIOS.name
    if mixture is None and (ratios := choice.ratios(response.reference)) is not None:
        written["ratios"] = ratios
    write_sealed(weights, written)
    return ChoiceFiles(weights, prediction)


def _settle(prediction: Path, weights: Path, content: Mapping[str, Any], may_replace: bool) -> None:
    """Keep a prediction that says the same; archive another one, with its weights."""
    before = read_prediction(prediction)
    if is_same(before, content):
        return
    if not may_replace:
        raise CotbalError(
            f"{prediction}: holds a prediction of {before['date']}, which is never replaced once"
            " a final model of its goal was started, nor in a directory of --out: give another"
            " --out",
            "prediction-exists",
        )
    archive(prediction)
    if weights.exists():
        archive(weights)


def steer(
    root: RunDir,
    goal: str | Sequence[str],
    floors: Floors,
    max_step: float = 1.0,
    out: Path | None = None,
) -> tuple[Steered, ChoiceFiles]:
    """Choose weights for a goal and write them with their prediction; see `choose`.

    Without `out` they are written into the run directory, where final trainings find them. There
    another prediction for the same goal is archived, until a final model was trained with it.
    """
    steered = choose(root, goal, floors, max_step)
    if out is not None:
        return steered, _write_choice(out, steered, _mixture_of(root))
    with locked(root.lock):
        return steered, _write_into(root, steered)


def _write_into(root: RunDir, steered: Steered) -> ChoiceFiles:
    started = any(_is_started(home, root, steered.choice.goal) for home in (root, *root.seeds))
    return _write_choice(root.trial_table.parent, steered, _mixture_of(root), not started)


def _is_started(home: RunDir, root: RunDir, goal: str) -> bool:
    """Whether a final model with the weights of a goal was started, on the loss or as ratios."""
    if home.final(method_for(goal)).job.exists():
        return True
    name = _file_part(goal)
    job, weights = home.final(ratios_run(name)).job, root.steered(name)
    if not (job.exists() and weights.exists()):
        return False
    # The run is named after its file, which may be another one of the same name.
    ratios: Mapping[str, float] = read_json(job)["run"]["ratios"]
    return ratios == read_json(weights)["tasks"]


def _file_part(goal: str) -> str:
    """A goal in the names of its files."""
    return name_part(goal.replace(",", "+"))


def _mixture_of(root: RunDir) -> Mixture | None:
    """The tasks of a run directory; None for a table of other origin."""
    return load_recipe(root.recipe).mixture if root.recipe.exists() else None


def steer_table(
    trials: Path,
    goal: str | Sequence[str],
    floors: Floors,
    max_step: float = 1.0,
    out: Path | None = None,
) -> tuple[Steered, ChoiceFiles | None]:
    """Choose weights for a goal from a table of trials of any trainer; with `out`, write them with
    their prediction, and a table for the final models unless there is one.

    Raises:
        CotbalError: the table does not say what weights do, or the goal or a floor is not possible.
    """
    table = read_trials(trials)
    response = fit_response(table)
    steered = Steered(response, choose_weights(response, goal, floors, max_step))
    if out is None:
        return steered, None
    files = _write_choice(out, steered)
    if not steered.choice.keep_equal:
        finals = out / f"finals-{_file_part(steered.choice.goal)}.csv"
        if not finals.exists():  # it may hold scores
            prediction = read_prediction(files.prediction)
            seeds = _new_seeds(table.seeds)
            write_text(finals, finals_table(prediction, files.weights.name, seeds))
        files = replace(files, finals=finals)
    return steered, files


def _new_seeds(labels: Sequence[str]) -> list[str]:
    """Training seeds after those of the trials."""
    numbers = [int(label) for label in labels if label.isdecimal()]
    first = max(numbers, default=-1) + 1
    return [str(seed) for seed in range(first, first + FINAL_SEEDS)]


def with_weights(prepared: Prepared) -> tuple[Prepared, dict[str, dict[str, float]]]:
    """The plan and, by name of the run, the weights of its steered final trainings.

    Weights are those that `cotbal steer` wrote, or else are chosen now with the default floors and
    written with their prediction, before anything is trained with them. Where trials differed in
    sampling ratios, the runs get ratios in place of weights.

    Raises:
        RunError: there are no finished trials.
    """
    weights = {}
    planned: list[Planned] = []
    for p in prepared.plan.runs:
        if not is_steered(p.run.weighting):
            planned.append(p)
            continue
        chosen, by_ratios = _weights_of(prepared, p.run.weighting)
        weights[p.run.name] = dict.fromkeys(chosen, 1.0) if by_ratios else chosen
        planned.append(_sampled(prepared, p, chosen) if by_ratios else p)
    if planned == list(prepared.plan.runs):
        return prepared, weights
    return replace(prepared, plan=replace(prepared.plan, runs=tuple(planned))), weights


def _sampled(prepared: Prepared, planned: Planned, ratios: Mapping[str, float]) -> Planned:
    """The run with these sampling ratios."""
    run = replace(planned.run, ratios=ratios)
    plan = make_plan(prepared.recipe, prepared.inputs, [(run, planned.kind)], prepared.root)
    return plan.runs[0]


def _weights_of(prepared: Prepared, method: str) -> tuple[dict[str, float], bool]:
    """Task -> weight, and whether the weights multiply sampling ratios."""
    root, goal = prepared.root, _goal(method)
    file = root.steered(goal)
    if not file.exists():
        names = goal.split("+")
        steered = choose(root, goal if goal in (MEAN, WORST) else names, {"*": FLOOR})
        _write_into(root, steered)
    weights = task_weights(prepared.recipe.mixture, read_weights(file))
    return weights, read_json(file).get("lever") == RATIOS.name


def _goal(method: str) -> str:
    return method.partition(":")[2]
