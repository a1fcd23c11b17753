"""The verbs: plan, balance, train, run, status, report. Each skips what is done and never imports torch."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cotbal import plugins
from cotbal.balance import Balance
from cotbal.balance import balance as weigh
from cotbal.errors import CotbalError, RunError
from cotbal.pipeline.inputs import open_inputs, warnings, write_portions
from cotbal.pipeline.jobs import Options, Work, carry_out, paths_of
from cotbal.pipeline.plan import Planned, Prepared, make_plan
from cotbal.recipe import Recipe
from cotbal.report import write_report
from cotbal.rundir import RunDir, RunPaths, locked, read_json, write_json, write_text
from cotbal.scores import ScoreMatrix
from cotbal.scoring import score_matrix

FIXED = "fixed"  # the weighting that trains with the weights of Eq. 11


def plan(recipe: Recipe, root: RunDir, weightings: Sequence[str] = (FIXED,)) -> Prepared:
    """Open the data and plan every run; nothing is written.

    Raises:
        CotbalError: the data is broken, or a weighting or metric does not exist.
    """
    weightings = tuple(dict.fromkeys(weightings))
    for weighting in weightings:
        plugins.load("cotbal.weightings", weighting)
    for task in recipe.mixture.tasks:
        for metric in {task.metric, *task.test_metrics}:
            plugins.load("cotbal.metrics", metric)
    inputs = open_inputs(recipe)
    return Prepared(recipe, inputs, make_plan(recipe, inputs, weightings, root), root, tuple(warnings(recipe, inputs)))


def balance(prepared: Prepared, options: Options) -> Balance:
    """Train and score the probes, then weigh (Eq. 3-11); writes scores.csv, balance.json and weights.json."""
    with locked(prepared.root.lock):
        _do(prepared, [p for p in prepared.plan.runs if p.kind == "probe"], options)
        return _weigh(prepared)


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
        _do(prepared, [_final(prepared, weighting)], options)
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
        finals = [_final(prepared, weighting) for weighting in dict.fromkeys(weightings)]
        early = [final for final in finals if final.run.weighting != FIXED]
        _do(prepared, [p for p in prepared.plan.runs if p.kind == "probe"] + early, options)
        result = _weigh(prepared)
        late = [final for final in finals if final.run.weighting == FIXED]
        if late:
            # Alone on the machine: let it have all of it. The number of threads must not depend on what is left to
            # do, or a resumed job would round differently.
            _do(prepared, late, replace(options, resources=replace(options.resources, workers=1)))
        return result, write_report(prepared.root.root)


def _final(prepared: Prepared, weighting: str) -> Planned:
    return next(p for p in prepared.plan.runs if p.kind == "final" and p.run.weighting == weighting)


def _write_plan(prepared: Prepared) -> None:
    write_text(prepared.root.recipe, prepared.recipe.to_yaml())
    versions = {"cotbal": importlib.metadata.version("cotbal")}
    content = {"fingerprint": prepared.recipe.fingerprint, "versions": versions, **prepared.plan.to_json()}
    content["warnings"] = list(prepared.warnings)
    for entry, planned in zip(content["runs"], prepared.plan.runs, strict=True):
        entry["directory"] = str(paths_of(planned, prepared.root).root.relative_to(prepared.root.root))
    content["runs"] += _other_finals(prepared)
    write_json(prepared.root.plan, content)
    write_portions(prepared.recipe, prepared.inputs, prepared.root)


def _other_finals(prepared: Prepared) -> list[dict[str, Any]]:
    """Final runs of an earlier command that are on disk and that this one does not plan."""
    if not prepared.root.plan.exists():
        return []
    planned = {p.run.name for p in prepared.plan.runs}
    before = [entry for entry in read_json(prepared.root.plan)["runs"] if entry["kind"] == "final"]
    return [e for e in before if e["name"] not in planned and (prepared.root.root / e["directory"]).exists()]


def _do(prepared: Prepared, planned: Sequence[Planned], options: Options) -> None:
    works = [Work(p, paths_of(p, prepared.root), _weights_for(prepared, p)) for p in planned]
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


def _weigh(prepared: Prepared) -> Balance:
    """From the kept answers of the probes to weights; repeated on every call, since it takes a second."""
    settings = prepared.recipe.file.balance
    probes = {p.run.name: prepared.root.probe(p.run.name) for p in prepared.plan.runs if p.kind == "probe"}
    matrix = score_matrix(probes, {task.name: task.metric for task in prepared.recipe.mixture.balanced})
    result = weigh(
        matrix,
        {task.name: task.unit for task in prepared.recipe.mixture.balanced},
        settings.temperature,
        settings.weight_range,
        settings.bootstrap,
        settings.seed,
    )
    write_balance(prepared.root, matrix, result)
    _write_weights(prepared, result.weights)
    return result


def write_balance(root: RunDir, matrix: ScoreMatrix, result: Balance) -> None:
    """Write the score matrix, what follows from it, and the weights of the units."""
    write_text(root.score_table, matrix.to_csv())
    write_json(root.balance, result.to_json())
    write_json(root.weights, {"weights": result.weights, "tasks": result.weights})


def _write_weights(prepared: Prepared, weights: Mapping[str, float]) -> None:
    mixture = prepared.recipe.mixture
    missing = [unit for unit in mixture.units if unit not in weights]
    if missing:
        raise CotbalError(
            f"weights: expected one for each of {', '.join(mixture.units)}; none for {', '.join(missing)}"
        )
    wrong = [f"{unit}: {weights[unit]}" for unit in mixture.units if not 0 < weights[unit] < float("inf")]
    if wrong:
        raise CotbalError(f"weights: expected positive numbers; found {', '.join(wrong)}")
    # A task that is not balanced trains with the mean weight, 1.
    tasks = {task.name: weights[task.unit] if task.balanced else 1.0 for task in mixture.tasks}
    write_json(prepared.root.weights, {"weights": dict(weights), "tasks": tasks})


@dataclass(frozen=True)
class State:
    """Where one run of a directory stands."""

    run: str
    kind: str
    state: Literal["done", "running", "failed", "interrupted", "missing"]
    detail: str


def status(root: RunDir) -> list[State]:
    """Every planned run of a directory: done, running, failed, interrupted or missing.

    Raises:
        RunError: the directory holds no plan.
    """
    if not root.plan.exists():
        raise RunError(
            f"{root.root}: expected a run directory with a plan.json, found none; start with `cotbal run RECIPE`"
        )
    return [_state(entry, RunPaths(root.root / entry["directory"])) for entry in read_json(root.plan)["runs"]]


def _state(entry: dict[str, str], paths: RunPaths) -> State:
    if paths.done:
        seconds = read_json(paths.outcome)["seconds"]["total"]
        return State(entry["name"], entry["kind"], "done", f"{seconds:.0f} s")
    if paths.lock.exists() and _held(paths.lock):
        progress = read_json(paths.progress) if paths.progress.exists() else {"phase": "starting", "fraction": 0.0}
        return State(entry["name"], entry["kind"], "running", f"{progress['phase']}, {progress['fraction']:.0%}")
    if paths.failure.exists():
        last = read_json(paths.failure)["message"].strip().splitlines()[-1]
        return State(entry["name"], entry["kind"], "failed", last)
    if paths.progress.exists():
        fraction = read_json(paths.progress)["fraction"]
        return State(entry["name"], entry["kind"], "interrupted", f"at {fraction:.0%}; the same command goes on")
    return State(entry["name"], entry["kind"], "missing", "")


def _held(lock: Path) -> bool:
    try:
        with locked(lock):
            return False
    except RunError:
        return True
