"""Any runs of a recipe: plan them, then train and score what is not done."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from typing import Any

from cotbal.data.files import write_sealed, write_sealed_text
from cotbal.errors import CotbalError, RecipeError, RunError
from cotbal.jobs.await_scores import need_scores
from cotbal.jobs.checkpoint_files import is_model_removed
from cotbal.jobs.execute import Options, Work, execute
from cotbal.jobs.inputs import Inputs, open_inputs, small_minis, warnings, write_portions
from cotbal.jobs.plan import Kind, Planned, Prepared, make_plan
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.sampling import dominance, with_sampling
from cotbal.recipe import accelerate_file
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run, untrained_runs
from cotbal.scores.measure import load_metric
from cotbal.scores.weights_file import read_task_weights
from cotbal.weightings import Weighting, build_weighting, method_label, takes_weights

FIXED = "cotbal"  # the weighting that trains with the weights of Eq. 11


def probes(recipe: Recipe) -> list[tuple[Run, Kind]]:
    """The probes that the recipe asks for."""
    return [(run, "probe") for run in recipe.probe_runs]


def untrained(recipe: Recipe) -> list[tuple[Run, Kind]]:
    """The base checkpoint, if tasks are only evaluated: what final models are held against."""
    runs = untrained_runs(recipe.mixture, recipe.file.optimization.seed)
    return [(run, "final") for run in runs]


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
    planned = make_plan(recipe, inputs, _sampled(recipe, inputs, runs), root)
    remarks = _remarks(recipe, inputs, planned.runs, methods)
    return Prepared(recipe, inputs, planned, root, tuple(remarks))


def _remarks(
    recipe: Recipe, inputs: Inputs, planned: Sequence[Planned], methods: Mapping[str, Weighting]
) -> list[str]:
    """What a user should see before paying for these runs."""
    remarks = small_minis(recipe, inputs) if any(p.kind == "probe" for p in planned) else []
    remarks += [*warnings(recipe, inputs), *_too_short(recipe, planned, methods)]
    remarks += dominance(recipe, inputs.sizes, methods)
    remarks += [
        f"{p.paths.checkpoint} was removed after its training; its scores are kept"
        for p in planned
        if is_model_removed(p.paths)
    ]
    return remarks


def _sampled(
    recipe: Recipe, inputs: Inputs, runs: Sequence[tuple[Run, Kind]]
) -> list[tuple[Run, Kind]]:
    """The runs, sampled as what they are trained by says."""
    of_probes, sizes = recipe.for_probes, inputs.sizes
    sampled: list[tuple[Run, Kind]] = []
    for run, kind in runs:
        trained_by = of_probes if kind == "probe" else recipe
        sampled.append((with_sampling(trained_by, sizes, run), kind))
    return sampled


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


def _write_plan(prepared: Prepared) -> None:
    write_sealed_text(prepared.root.recipe, prepared.recipe.to_yaml())
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
    write_sealed(prepared.root.plan, content)
    write_portions(prepared.recipe, prepared.inputs, prepared.root)
    prepared.images.save()


def _others(prepared: Prepared, planned: set[str]) -> list[dict[str, Any]]:
    """Runs of an earlier command that are on disk and that this one does not plan."""
    if not prepared.root.plan.exists():
        return []
    before = prepared.root.planned()
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
    given = weights or {}
    works = []
    for item in planned:
        weights_of_run = given.get(item.run.name) or _weights_for(prepared, item)
        works.append(Work(item, weights_of_run))
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
