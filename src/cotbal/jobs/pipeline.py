"""The verbs: plan, balance, train, run. Each skips what is done and never imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cotbal.balance import Balance
from cotbal.data.files import locked
from cotbal.errors import RunError
from cotbal.jobs.checkpoint_files import is_model_removed
from cotbal.jobs.execute import Options
from cotbal.jobs.plan import Kind, Prepared
from cotbal.jobs.rundir import RunDir, name_part, ratios_run
from cotbal.jobs.runs import FIXED, do, prepare, probes, untrained
from cotbal.jobs.stages import do_first, do_rest
from cotbal.jobs.steering import is_steered, method_of, trials_for, with_weights
from cotbal.jobs.weigh import task_weights, weigh, write_weights
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run, final_run
from cotbal.scores.weights_file import read_weights
from cotbal.training.run_paths import RunPaths


def plan(
    recipe: Recipe,
    root: RunDir,
    weightings: Sequence[str] = (FIXED,),
    ratios: Path | None = None,
) -> Prepared:
    """Open the data and plan one final run a weighting, what gives it its weights (probes, or
    trials where all weights are steered), and the base checkpoint where tasks are only evaluated;
    nothing is written.

    Args:
        ratios: a file of weights; also plans a final run with these as sampling ratios.

    Raises:
        CotbalError: the data or the file is broken, ratios repeat records too often, or a weighting
            or metric does not exist.
    """
    seed = recipe.file.optimization.seed
    methods = [method_of(recipe.mixture, name) for name in weightings]
    recipe, first = trials_for(recipe, root, methods)
    if FIXED in methods or not any(map(is_steered, methods)):
        first = [*probes(recipe), *first]
    finals: list[tuple[Run, Kind]] = [
        (final_run(recipe.mixture, name, seed), "final") for name in methods
    ]
    if ratios is not None:
        of_tasks = task_weights(recipe.mixture, read_weights(ratios))
        run = final_run(recipe.mixture, "ew", seed, ratios_run_name(ratios))
        finals.append((replace(run, ratios=of_tasks), "final"))
    return prepare(recipe, root, [*first, *untrained(recipe), *finals])


def ratios_run_name(path: Path) -> str:
    """Name of the final run whose tasks are sampled by the weights of a file, such as
    `ratios:ocr` for `weights-ocr.json`.
    """
    return ratios_run(name_part(path.stem.removeprefix("weights").lstrip("-")))


def balance(prepared: Prepared, options: Options) -> Balance:
    """Train and score the probes, then weigh (Eq. 3-11); writes scores.csv, balance.json and
    weights.json.

    Raises:
        RunError: a task is scored by a judge, who has not been asked yet.
    """
    with locked(prepared.root.lock):
        planned = [p for p in prepared.plan.runs if p.kind == "probe"]
        do(prepared, planned, options)
        return weigh(prepared.root)


def train(
    prepared: Prepared, weighting: str, options: Options, weights: Mapping[str, float] | None = None
) -> RunPaths:
    """The final training with one weighting, or another planned one by its name, scored on the test
    splits.

    Args:
        weights: unit -> weight for the weighting `cotbal`, instead of those that `balance` left in
            the run directory.

    Raises:
        RunError: `cotbal` was asked for before there are weights, or `steer` before there are
            trials, or the model of a finished run was removed.
    """
    name = method_of(prepared.recipe.mixture, weighting)
    with locked(prepared.root.lock):
        if weights is not None:
            write_weights(prepared.root, prepared.recipe.mixture, weights)
        prepared, steered = with_weights(prepared)
        planned = [*prepared.plan.untrained, prepared.plan.named(name)]
        do(prepared, planned, options, steered)
        paths = prepared.root.final(name)
        if is_model_removed(paths):
            raise RunError(
                f"{paths.checkpoint}: expected the trained model; found none: it was removed after"
                f" the training. To train it again, remove {paths.root} and rerun this command",
                "missing-checkpoint",
            )
        return paths


def run(prepared: Prepared, options: Options) -> Balance | None:
    """Probes or trials, weights, final trainings; returns the weights of the probes, if any are
    planned.
    """
    with locked(prepared.root.lock):
        left = do_first(prepared, options)
        has_probes = any(p.kind == "probe" for p in prepared.plan.runs)
        result = weigh(prepared.root) if has_probes else None
        do_rest(prepared, left, options)
        return result
