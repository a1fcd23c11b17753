"""The verbs: plan, balance, train, run. Each skips what is done and never imports torch."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cotbal import plugins
from cotbal.balance import Balance, Settings
from cotbal.balance import balance as balance_scores
from cotbal.balance.forms import rows_of
from cotbal.errors import CotbalError, RunError
from cotbal.mixture import Mixture
from cotbal.pipeline.inputs import open_inputs, warnings, write_portions
from cotbal.pipeline.jobs import Options, Work, carry_out
from cotbal.pipeline.plan import Kind, Planned, Prepared, make_plan
from cotbal.recipe import Recipe
from cotbal.report import write_report
from cotbal.report.naming import method_label
from cotbal.rundir import RunDir, RunPaths, locked, read_json, write_json, write_text
from cotbal.runs import Run, final_run, plan_probes
from cotbal.scores import ScoreMatrix, mean_matrix
from cotbal.scoring import score_matrix
from cotbal.weightings import Weighting

FIXED = "fixed"  # the weighting that trains with the weights of Eq. 11


def plan(recipe: Recipe, root: RunDir, weightings: Sequence[str] = (FIXED,)) -> Prepared:
    """Open the data and plan the probes and one final run a weighting; nothing is written.

    Raises:
        CotbalError: the data is broken, or a weighting or metric does not exist.
    """
    seed = recipe.file.optimization.seed
    finals: list[tuple[Run, Kind]] = [(final_run(recipe.mixture, name, seed), "final") for name in weightings]
    return prepare(recipe, root, [*probes(recipe), *finals])


def probes(recipe: Recipe) -> list[tuple[Run, Kind]]:
    """The probes that the recipe asks for."""
    settings = recipe.file.balance
    planned = plan_probes(recipe.mixture, settings.form, settings.difficulty, recipe.seeds)
    return [(run, "probe") for run in planned.runs]


def prepare(recipe: Recipe, root: RunDir, runs: Sequence[tuple[Run, Kind]]) -> Prepared:
    """Open the data and plan these runs; nothing is written.

    Raises:
        CotbalError: the data is broken, or a weighting or metric does not exist.
    """
    methods = {name: _method(recipe, name) for name in {run.weighting for run, _ in runs} | set(recipe.file.weightings)}
    for task in recipe.mixture.tasks:
        for metric in {task.metric, *task.test_metrics}:
            plugins.load("cotbal.metrics", metric)
    inputs = open_inputs(recipe)
    planned = make_plan(recipe, inputs, runs, root)
    remarks = [*warnings(recipe, inputs), *_too_short(recipe, planned.runs, methods)]
    return Prepared(recipe, inputs, planned, root, tuple(remarks))


def _method(recipe: Recipe, name: str) -> Weighting:
    """A method with the options of the recipe, built before anything is spent on it."""
    names = [task.name for task in recipe.mixture.tasks]
    given = dict.fromkeys(names, 1.0) if name == FIXED else None
    options = recipe.file.weightings.get(name, {})
    found: Weighting = plugins.load("cotbal.weightings", name).build(names, given, **options)
    return found


def _too_short(recipe: Recipe, planned: Sequence[Planned], methods: Mapping[str, Weighting]) -> list[str]:
    """Dynamic methods whose weights would not move before the training ends."""
    settings = recipe.file.optimization
    remarks = {}
    for p in planned:
        steps, starts = math.ceil(p.records * settings.epochs / settings.batch_size), methods[p.run.weighting].starts
        if starts >= steps:
            remarks[p.run.weighting] = (
                f"{method_label(p.run.weighting)} keeps equal weights for its first {starts} optimizer steps, and a "
                f"final run has {steps}: give it smaller windows with weightings.{p.run.weighting}.window"
            )
    return [text for name, text in remarks.items() if methods[name].starts]


def balance(prepared: Prepared, options: Options) -> Balance:
    """Train and score the probes, then weigh (Eq. 3-11); writes scores.csv, balance.json and weights.json."""
    with locked(prepared.root.lock):
        do(prepared, [p for p in prepared.plan.runs if p.kind == "probe"], options)
        return weigh(prepared)


def train(prepared: Prepared, weighting: str, options: Options, weights: Mapping[str, float] | None = None) -> RunPaths:
    """The final training with one weighting, scored on the test splits.

    Args:
        weights: unit -> weight for the weighting `fixed`, instead of those that `balance` left in the run directory.

    Raises:
        RunError: `fixed` was asked for before there are weights.
    """
    with locked(prepared.root.lock):
        if weights is not None:
            _write_weights(prepared, weights)
        do(prepared, [prepared.plan.named(weighting)], options)
        return prepared.root.final(weighting)


def read_weights(path: Path) -> dict[str, float]:
    """Unit -> weight from a weights.json, or from any JSON mapping of names to numbers.

    Raises:
        CotbalError: the file is not that.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CotbalError(f"{path}: expected weights as JSON; {error}") from None
    found = content.get("weights", content) if isinstance(content, dict) else None
    if not isinstance(found, dict) or not all(type(value) in (int, float) for value in found.values()):
        raise CotbalError(f'{path}: expected {{"weights": {{unit: number}}}}; found something else')
    return found


def run(prepared: Prepared, weightings: Sequence[str], options: Options) -> tuple[Balance, Path]:
    """Probes, weights, final trainings and report; returns the weights and the report's page.

    Finals that need no weights share the workers with the probes; those that do come after.
    """
    with locked(prepared.root.lock):
        finals = [prepared.plan.named(weighting) for weighting in dict.fromkeys(weightings)]
        early = [final for final in finals if final.run.weighting != FIXED]
        do(prepared, [p for p in prepared.plan.runs if p.kind == "probe"] + early, options)
        result = weigh(prepared)
        late = [final for final in finals if final.run.weighting == FIXED]
        if late:
            # Alone on the machine: let it have all of it. The number of threads must not depend on what is left to
            # do, or a resumed job would round differently.
            do(prepared, late, replace(options, resources=replace(options.resources, workers=1)))
        return result, write_report(prepared.root.root)


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
    write_json(prepared.root.plan, content)
    write_portions(prepared.recipe, prepared.inputs, prepared.root)


def _others(prepared: Prepared, planned: set[str]) -> list[dict[str, Any]]:
    """Runs of an earlier command that are on disk and that this one does not plan."""
    if not prepared.root.plan.exists():
        return []
    before = read_json(prepared.root.plan)["runs"]
    return [e for e in before if e["directory"] not in planned and (prepared.root.root / e["directory"]).exists()]


def do(
    prepared: Prepared,
    planned: Sequence[Planned],
    options: Options,
    weights: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Carry out planned runs, those that are done excepted.

    Args:
        weights: name of a run -> task -> weight, for runs of the weighting `fixed` that take others than weights.json.
    """
    works = [Work(p, (weights or {}).get(p.run.name) or _weights_for(prepared, p)) for p in planned]
    carry_out(prepared, works, options, lambda: _write_plan(prepared))


def _weights_for(prepared: Prepared, planned: Planned) -> dict[str, float] | None:
    if planned.run.weighting != FIXED:
        return None
    if not prepared.root.weights.exists():
        raise RunError(
            f"{prepared.root.weights}: expected weights, found none; run `cotbal balance` first, or give --weights"
        )
    weights: dict[str, float] = read_json(prepared.root.weights)["tasks"]
    return weights


def weigh(prepared: Prepared) -> Balance:
    """From the kept answers of the probes to weights; repeated on every call, since it takes a second."""
    how = settings(prepared.recipe)
    names = rows_of(how.form or "standard", how.difficulty).names(prepared.recipe.mixture.units)
    matrices = [matrix.rows(names) for matrix in score_matrices(prepared)]
    result = balance_scores(matrices, units(prepared.recipe), how)
    write_balance(prepared.root, mean_matrix(matrices), result)
    if len(matrices) > 1:
        for seed, matrix in zip(prepared.recipe.seeds, matrices, strict=True):
            write_text(prepared.root.seeded(seed).score_table, matrix.to_csv())
    _write_weights(prepared, result.weights)
    return result


def score_matrices(prepared: Prepared) -> list[ScoreMatrix]:
    """The score matrix of all probes that are planned, one a training seed of the probes."""
    metrics = {task.name: task.metric for task in prepared.recipe.mixture.balanced}
    matrices = []
    for seed in prepared.recipe.seeds:
        runs = [p for p in prepared.plan.runs if p.kind == "probe" and p.run.seed == seed and p.run.validation]
        answered = {p.run.name: p.run.validation for p in runs}
        matrices.append(score_matrix({p.run.name: p.paths for p in runs}, metrics, answered))
    return matrices


def units(recipe: Recipe) -> dict[str, str]:
    """Task -> the unit that it gets its weight from."""
    return {task.name: task.unit for task in recipe.mixture.balanced}


def settings(recipe: Recipe) -> Settings:
    """How the recipe turns scores into weights."""
    section = recipe.file.balance
    return Settings(
        form=section.form, difficulty=section.difficulty, temperature=section.temperature,
        weight_range=section.weight_range, shrink=section.shrink, resamples=section.bootstrap, seed=section.seed,
    )  # fmt: skip


def write_balance(root: RunDir, matrix: ScoreMatrix, result: Balance) -> None:
    """Write the score matrix, what follows from it, and the weights of the units."""
    write_text(root.score_table, matrix.to_csv())
    write_json(root.balance, result.to_json())
    write_json(root.weights, {"weights": result.weights, "tasks": result.weights})


def _write_weights(prepared: Prepared, weights: Mapping[str, float]) -> None:
    content = {"weights": dict(weights), "tasks": task_weights(prepared.recipe.mixture, weights)}
    write_json(prepared.root.weights, content)


def task_weights(mixture: Mixture, weights: Mapping[str, float]) -> dict[str, float]:
    """Task -> weight from unit -> weight; a task that is not balanced trains with the mean weight, 1.

    Raises:
        CotbalError: a unit has no weight, or one that is not a positive number.
    """
    missing = [unit for unit in mixture.units if unit not in weights]
    if missing:
        raise CotbalError(
            f"weights: expected one for each of {', '.join(mixture.units)}; none for {', '.join(missing)}"
        )
    wrong = [f"{unit}: {weights[unit]}" for unit in mixture.units if not 0 < weights[unit] < float("inf")]
    if wrong:
        raise CotbalError(f"weights: expected positive numbers; found {', '.join(wrong)}")
    return {task.name: weights[task.unit] if task.balanced else 1.0 for task in mixture.tasks}
