"""`response`: trials that differ in the weights of their tasks, and what they say about weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from cotbal.data.files import (
    archive,
    as_written,
    digest_of,
    locked,
    need_sealed,
    read_json,
    write_sealed,
    write_sealed_text,
)
from cotbal.errors import CotbalError, RecipeError, RunError
from cotbal.jobs.execute import Options
from cotbal.jobs.inputs import differences
from cotbal.jobs.plan import Kind, Planned, Prepared, paths_of
from cotbal.jobs.queue import archive_run, release
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.runs import FIXED, do, prepare
from cotbal.jobs.scoring import read_scores_file, score_matrix
from cotbal.jobs.weigh import task_weights
from cotbal.recipe.mixture import Mixture
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import UNTRAINED_TRIAL, Run, trial_name, trial_runs, untrained_trials
from cotbal.response import Design, Response, Trials, fit_response, read_trials, two_level_design
from cotbal.response.lever import RATIOS
from cotbal.training.run_paths import RunPaths

MOST_FINALS = Fraction(5, 2)  # cost of all trials with the default fraction, in final runs


def design_of(recipe: Recipe) -> Design:
    """The trials of a recipe; their tasks are the units of its mixture.

    Raises:
        RecipeError: `invalid-design` of these units, runs, step and seeds; `aliased-effects` or
            `too-few-trials` for a fit.
    """
    section, units = recipe.file.response, recipe.mixture.units
    first = recipe.file.optimization.seed
    seeds = section.seeds or (first, first + 1)
    try:
        design = two_level_design(units, section.runs, section.step, seeds)
    except CotbalError as error:
        raise RecipeError(f"{recipe.path}: response: {error}", error.code) from None
    if design.aliased:
        raise RecipeError(f"{recipe.path}: response.runs: {design.aliasing}", "aliased-effects")
    if design.freedom < 1 or set(design.seeds) < set(seeds):
        raise RecipeError(
            f"{recipe.path}: response.runs: expected enough runs for {len(units)} weights, a"
            f" curvature and {len(seeds)} seeds; found {len(design.seeds)}: plan more runs, or use"
            " fewer seeds",
            "too-few-trials",
        )
    return design


def fraction_of(recipe: Recipe, design: Design) -> Fraction:
    """The fraction of every task's training records that a trial sees."""
    default = min(Fraction(1), MOST_FINALS / len(design.seeds))
    return recipe.file.response.fraction or default


def plan_trials(recipe: Recipe, root: RunDir) -> Prepared:
    """Open the data and plan the trials of the section `response`, and the base checkpoint where
    tasks are only evaluated; nothing is written.

    Raises:
        CotbalError: the data is broken, or such trials say nothing, see `design_of`.
    """
    return prepare(recipe, root, trials(recipe))


def trials(recipe: Recipe) -> list[tuple[Run, Kind]]:
    """The trials that the recipe asks for, and the base checkpoint where tasks are only
    evaluated.
    """
    untrained = untrained_trials(recipe.mixture, recipe.file.optimization.seed)
    return [(run, "trial") for run in (*_runs(recipe), *untrained)]


def run_trials(prepared: Prepared, options: Options) -> Response:
    """Train and score the trials that are not done yet, write the table of all, and fit it.

    Raises:
        RunError: the directory holds trials of another design, or of another recipe.
        ScoresError: the trials do not say what weights do.
    """
    with locked(prepared.root.lock):
        do_with_trials(prepared, prepared.plan.runs, options)
    return read_response(prepared.root)


def do_with_trials(prepared: Prepared, planned: Sequence[Planned], options: Options) -> None:
    """Train and score what is planned and not done; if there are trials among it, write their
    table.

    Raises:
        RunError: the directory holds trials of another design, or of another recipe.
    """
    if not any(p.kind == "trial" for p in planned):
        do(prepared, planned, options)
        return
    recipe = prepared.recipe
    _settle_design(prepared, options)
    do(prepared, planned, options, None if _by_ratios(recipe) else _weights(recipe))
    write_trials(recipe, prepared.root)


def write_trials(recipe: Recipe, root: RunDir) -> None:
    """Write the table of the trials from their scores.

    Args:
        recipe: with the section `response` of the trials, see `as_planned`.
    """
    write_sealed_text(root.trial_table, trial_table(recipe, root))


def trial_table(recipe: Recipe, root: RunDir) -> str:
    """The table of the finished trials as `write_trials` writes it."""
    design, mixture = design_of(recipe), recipe.mixture
    files = {run.name: paths for run, paths in _files(recipe, root)}
    metrics = {task.name: task.metric for task in mixture.scored}
    matrix = score_matrix(files, metrics)
    by_ratios, equal = _by_ratios(recipe), np.ones_like(design.weights)
    trials_done = Trials(
        tasks=design.tasks,
        scored=matrix.tasks,
        weights=equal if by_ratios else design.weights,
        scores=matrix.values,
        seeds=tuple(map(str, design.seeds)),
        ratios=design.weights if by_ratios else None,
    )
    return trials_done.to_csv()


def refresh_trials(root: RunDir) -> None:
    """Write the table of the trials again from their scores, if all of them are there."""
    if not root.trial_table.exists():
        return
    recipe = as_planned(load_recipe(root.recipe), root)
    if trials_are_done(recipe, root):
        write_trials(recipe, root)


def trials_are_done(recipe: Recipe, root: RunDir) -> bool:
    """Whether the trials of a run directory are those of the recipe, and all are finished."""
    same = read_json(root.design) == _described(recipe)
    return same and all(paths.done for _, paths in _files(recipe, root))


def read_response(root: RunDir) -> Response:
    """The response that the finished trials of a run directory show.

    Raises:
        RunError: there are no trials, or not all of them are finished.
        ScoresError: they do not say what weights do.
    """
    if not root.trial_table.exists():
        missing = ""
        if root.design.exists():
            recipe = as_planned(load_recipe(root.recipe), root)
            waiting = [run.name for run, paths in _files(recipe, root) if not paths.done]
            missing = f" (not finished: {', '.join(waiting)})"
        raise RunError(
            f"{root.root}: expected finished trials{missing}: run `cotbal response RECIPE` first",
            "unfinished-trials",
        )
    if digest_of(root.trial_table).exists():  # not beside a table of other origin
        need_sealed(root.trial_table)
    table = read_trials(root.trial_table)
    if not root.design.exists():  # a table of other origin: every task has its own weight
        return fit_response(table)
    design = read_json(root.design)
    with as_written(root.design):
        unit_of = {task: unit for unit, members in design["units"].items() for task in members}
        fraction = Fraction(design["fraction"])
    return fit_response(replace(table, units=unit_of, fraction=fraction))


def untrained_scores(root: RunDir) -> dict[str, float]:
    """Validation scores of the base checkpoint, before training, on the tasks that are only
    evaluated; of those that were scored beside the trials.
    """
    paths = root.trial(UNTRAINED_TRIAL)
    if not paths.done:
        return {}
    recipe = load_recipe(root.recipe)
    scores = {}
    for task in recipe.mixture.only_evaluated:
        metrics = read_scores_file(paths, task.name, "validation")["metrics"]
        if task.metric in metrics:
            scores[task.name] = float(metrics[task.metric]["score"])
    return scores


def start_sentence(root: RunDir) -> str:
    """What "equal" means where the recipe samples its tasks; empty where it does not, and for a
    table of other origin.
    """
    if not root.recipe.exists():
        return ""
    sampling = load_recipe(root.recipe).file.optimization.sampling
    if sampling == 1:
        return ""
    return (
        "Equal weights or ratios mean the recipe's own sampling (optimization.sampling ="
        f" {sampling}); weights and ratios multiply it."
    )


def as_planned(recipe: Recipe, root: RunDir) -> Recipe:
    """The recipe with the trials that a run directory holds; unchanged where it holds none."""
    if not root.design.exists():
        return recipe
    kept = read_json(root.design)
    with as_written(root.design):
        fields = {name: kept[name] for name in type(recipe.file.response).model_fields}
        section = type(recipe.file.response).model_validate(fields)
    return replace(recipe, file=recipe.file.model_copy(update={"response": section}))


def _runs(recipe: Recipe) -> tuple[Run, ...]:
    design = design_of(recipe)
    fraction = str(fraction_of(recipe, design))
    if not _by_ratios(recipe):
        return trial_runs(recipe.mixture, design.seeds, fraction, FIXED)
    runs = trial_runs(recipe.mixture, design.seeds, fraction, "ew")
    ratios = _weights(recipe)
    return tuple(replace(run, ratios=ratios[run.name]) for run in runs)


def _by_ratios(recipe: Recipe) -> bool:
    """Whether trials differ in sampling ratios in place of weights on the loss."""
    return recipe.file.response.lever == RATIOS.name


def _files(recipe: Recipe, root: RunDir) -> list[tuple[Run, RunPaths]]:
    recipe_seed = recipe.file.optimization.seed
    return [(run, paths_of(run, "trial", root, recipe_seed)) for run in _runs(recipe)]


def _weights(recipe: Recipe) -> dict[str, dict[str, float]]:
    """Name of a trial -> task -> weight (or sampling ratio)."""
    design = design_of(recipe)
    weights = {}
    for number, row in enumerate(design.weights.tolist()):
        of_units = dict(zip(design.tasks, row, strict=True))
        weights[trial_name(number)] = task_weights(recipe.mixture, of_units)
    return weights


def _described(recipe: Recipe) -> dict[str, Any]:
    """What the trials of a run directory have in common."""
    design, section = design_of(recipe), recipe.file.response
    return {
        "runs": len(design.seeds),
        "step": design.step,
        "seeds": list(dict.fromkeys(design.seeds)),
        "fraction": str(fraction_of(recipe, design)),
        "lever": section.lever,
        "units": _members(recipe.mixture),
    }


def _members(mixture: Mixture) -> dict[str, list[str]]:
    """Unit -> names of its tasks."""
    members: dict[str, list[str]] = {}
    for task in mixture.balanced:
        members.setdefault(task.unit, []).append(task.name)
    return members


def _settle_design(prepared: Prepared, options: Options) -> None:
    """Write which trials there are; archive trials of another design.

    Raises:
        RunError: the directory holds trials of another design, and the options do not say to
            archive them.
    """
    root, now = prepared.root, _described(prepared.recipe)
    before = read_json(root.design) if root.design.exists() else now
    changed = differences(before, now)
    if changed and not options.restart_changed:
        listed = "\n".join(f"  {line}" for line in changed)
        raise RunError(
            f"{root.root}: holds trials of another design:\n{listed}\n"
            "repeat the options of these trials, give another --out, or archive them with"
            " --restart-changed",
            "changed-settings",
        )
    if changed:
        kept = {planned.paths for planned in prepared.plan.runs}
        others = [paths.root for paths in root.trials if paths not in kept]
        release(others)
        for directory in others:
            archive_run(directory)
        archive(root.design.parent)
    write_sealed(root.design, now)
