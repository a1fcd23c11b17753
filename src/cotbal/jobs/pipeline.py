"""The verbs: plan, balance, train, run. Each skips what is done and never imports torch."""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cotbal.balance import Balance
from cotbal.data.files import locked, read_json, write_json, write_text
from cotbal.errors import CotbalError, RecipeError, RunError
from cotbal.jobs.await_scores import need_scores
from cotbal.jobs.execute import Options, Work, execute
from cotbal.jobs.inputs import open_inputs, small_minis, warnings, write_portions
from cotbal.jobs.plan import Kind, Planned, Prepared, make_plan
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.weigh import task_weights, weigh, write_weights
from cotbal.recipe import accelerate_file
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run, final_run, untrained_runs
from cotbal.scores.measure import load_metric
from cotbal.scores.weights_file import read_task_weights, read_weights
from cotbal.training.run_paths import RunPaths
from cotbal.weightings import Weighting, build_weighting, method_label, takes_weights

FIXED = "cotbal"  # the weighting that trains with the weights of Eq. 11


def plan(
    recipe: Recipe,
    root: RunDir,
    weightings: Sequence[str] = (FIXED,),
    ratios: Path | None = None,
) -> Prepared:
    """Open the data and plan the probes, one final run a weighting, and the base checkpoint where
    tasks are only evaluated; nothing is written.

    Args:
        ratios: a file of weights; also plans a final run with these as sampling ratios.

    Raises:
        CotbalError: the data or the file is broken, ratios repeat records too often, or a weighting
            or metric does not exist.
    """
    seed = recipe.file.optimization.seed
    finals: list[tuple[Run, Kind]] = [
        (final_run(recipe.mixture, name, seed), "final") for name in weightings
    ]
    if ratios is not None:
        of_tasks = task_weights(recipe.mixture, read_weights(ratios))
        run = final_run(recipe.mixture, "ew", seed, ratios_run_name(ratios))
        finals.append((replace(run, ratios=of_tasks), "final"))
    return prepare(recipe, root, [*probes(recipe), *untrained(recipe), *finals])


def untrained(recipe: Recipe) -> list[tuple[Run, Kind]]:
    """The base checkpoint, if tasks are only evaluated: what final models are held against."""
    runs = untrained_runs(recipe.mixture, recipe.file.optimization.seed)
    return [(run, "final") for run in runs]


def ratios_run_name(path: Path) -> str:
    """Name of the final run whose tasks are sampled by the weights of a file: `ratios:ocr` for
    `weights-ocr.json`, `ratios` for `weights.json`.
    """
    variant = re.sub(r"[^\w.+-]+", "-", path.stem.removeprefix("weights").lstrip("-"))
    return f"ratios:{variant}" if variant else "ratios"


def probes(recipe: Recipe) -> list[tuple[Run, Kind]]:
    """The probes that the recipe asks for."""
    return [(run, "probe") for run in recipe.probe_runs]


def prepare(recipe: Recipe, root: RunDir, runs: Sequence[tuple[Run, Kind]]) -> Prepared:
    """Open the data and plan these runs; nothing is written.

    Raises:
        CotbalError: the data is broken, a weighting or metric does not exist, or the configuration
            of accelerate asks for what runs cannot have.
    """
    if problems := accelerate_file.problems(recipe):
        text = "\n".join(problem for _, problem in problems)
        raise RecipeError(text, accelerate_file.UNSUPPORTED)
    names = {run.weighting for run, _ in runs} | set(recipe.file.weightings)
    methods = {name: _method(recipe, name) for name in names}
    for task in recipe.mixture.tasks:
        for metric in {task.metric, *task.test_metrics}:
            _need_metric(task.name, metric)
    inputs = open_inputs(recipe)
    planned = make_plan(recipe, inputs, runs, root)
    remarks = [*warnings(recipe, inputs), *_too_short(recipe, planned.runs, methods)]
    if any(kind == "probe" for _, kind in runs):
        remarks = small_minis(recipe, inputs) + remarks
    return Prepared(recipe, inputs, planned, root, tuple(remarks))


def _need_metric(task: str, metric: str) -> None:
    try:
        load_metric(metric)
    except CotbalError as error:
        raise CotbalError(f"task {task}: {error}", error.code) from None


def _method(recipe: Recipe, name: str) -> Weighting:
    """A method with the options of the recipe, built before anything is spent on it."""
    names = [task.name for task in recipe.mixture.trained]
    given = dict.fromkeys(names, 1.0) if takes_weights(name) else None
    return build_weighting(name, names, given, options=recipe.file.weightings.get(name))


def _too_short(
    recipe: Recipe, planned: Sequence[Planned], methods: Mapping[str, Weighting]
) -> list[str]:
    """Dynamic methods whose weights would not move before the training ends."""
    settings = recipe.file.optimization
    remarks = {}
    for p in planned:
        steps, starts = (
            math.ceil(p.records * settings.epochs / settings.batch_size),
            methods[p.run.weighting].starts,
        )
        if starts >= steps:
            remarks[p.run.weighting] = (
                f"{method_label(p.run.weighting)} keeps equal weights for its first {starts}"
                f" optimizer steps, and a final run has {steps}: give it smaller windows with"
                f" weightings.{p.run.weighting}.window"
            )
    return [text for name, text in remarks.items() if methods[name].starts]


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
        RunError: `cotbal` was asked for before there are weights.
    """
    with locked(prepared.root.lock):
        if weights is not None:
            write_weights(prepared.root, prepared.recipe.mixture, weights)
        planned = [*prepared.plan.untrained, prepared.plan.named(weighting)]
        do(prepared, planned, options)
        return prepared.root.final(weighting)


def run(prepared: Prepared, weightings: Sequence[str], options: Options) -> Balance:
    """Probes, weights, final trainings; returns the weights.

    Finals that need no weights share the workers with the probes; those that do come after.
    """
    with locked(prepared.root.lock):
        finals = [prepared.plan.named(weighting) for weighting in dict.fromkeys(weightings)]
        early = [p for p in prepared.plan.runs if p.kind == "probe"]
        early += prepared.plan.untrained
        early += [final for final in finals if final.run.weighting != FIXED]
        late = [final for final in finals if final.run.weighting == FIXED]
        do(prepared, early, replace(options, later=len(late)))
        result = weigh(prepared.root)
        if late:
            # Alone on the machine: let it have all of it. The number of threads must not depend on
            # what is left to do, or a resumed job would round differently.
            do(prepared, late, replace(options, resources=replace(options.resources, workers=1)))
        return result


def _write_plan(prepared: Prepared) -> None:
    write_text(prepared.root.recipe, prepared.recipe.to_yaml())
    content = {
        "fingerprint": prepared.recipe.fingerprint,
        "versions": {"cotbal": importlib.metadata.version("cotbal")},
        "seed": prepared.recipe.file.optimization.seed,
        **prepared.plan.to_json(),
    }
    content["warnings"] = list(prepared.warnings)
    for entry, planned in zip(content["runs"], prepared.plan.runs, strict=True):
        entry["directory"] = str(planned.paths.root.relative_to(prepared.root.root))
    content["runs"] += _others(prepared, {entry["directory"] for entry in content["runs"]})
    # A command without probes must not make those of an earlier one free.
    content["probe_share"] = sum(
        entry["share"] for entry in content["runs"] if entry["kind"] == "probe"
    )
    content["sizes"] = {task: dict(sizes) for task, sizes in prepared.inputs.sizes.items()}
    write_json(prepared.root.plan, content)
    write_portions(prepared.recipe, prepared.inputs, prepared.root)


def _others(prepared: Prepared, planned: set[str]) -> list[dict[str, Any]]:
    """Runs of an earlier command that are on disk and that this one does not plan."""
    if not prepared.root.plan.exists():
        return []
    before = read_json(prepared.root.plan)["runs"]
    return [
        e
        for e in before
        if e["directory"] not in planned and (prepared.root.root / e["directory"]).exists()
    ]


def do(
    prepared: Prepared,
    planned: Sequence[Planned],
    options: Options,
    weights: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Run what is planned and not done.

    Args:
        weights: name of a run -> task -> weight, for runs of the weighting `cotbal` that take
            others than weights.json.

    Raises:
        RunError: a task is scored by another command, such as `cotbal judge`, which has to be run
            first.
    """
    works = [Work(p, (weights or {}).get(p.run.name) or _weights_for(prepared, p)) for p in planned]
    execute(prepared, works, options, lambda: _write_plan(prepared))
    need_scores(prepared, planned)


def _weights_for(prepared: Prepared, planned: Planned) -> dict[str, float] | None:
    if planned.run.weighting != FIXED:
        return None
    if not prepared.root.weights.exists():
        raise RunError(
            f"{prepared.root.weights}: expected weights; found none: run `cotbal balance` first, or"
            " give --weights",
            "missing-weights",
        )
    return read_task_weights(prepared.root.weights)
