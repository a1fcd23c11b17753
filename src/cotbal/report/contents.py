"""What a run directory holds, read for a report; whatever is not there yet is left empty."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from cotbal.balance import Balance, Flag, Need
from cotbal.data.files import read_json, read_jsonl
from cotbal.errors import RunError
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.scores.matrix import CONSTANT, Measured, ScoreMatrix, read_measured, read_scores
from cotbal.training.run_paths import RunPaths

LICENCES = "LICENCES.md"
Status = Literal["done", "failed", "not finished", "not started"]
Kind = Literal["probe", "final", "curve"]


@dataclass(frozen=True)
class MetricScores:
    """One metric of one run on one split of one task; `constant` is the score of the best constant
    answer, `source` the digest of the code that made the scores.
    """

    score: float
    maximum: float
    measured: Measured
    constant: float | None
    constant_answer: str
    source: str | None = None


@dataclass(frozen=True)
class TaskScores:
    """The scores of one run on one split of one task; `clusters` numbers the samples by picture."""

    task: str
    split: str
    clusters: Int[np.ndarray, " sample"]
    metrics: Mapping[str, MetricScores]


@dataclass(frozen=True)
class RunContents:
    """One run: a probe, a final model, or an amount of the curve.

    Attributes:
        name: that of the run, such as `mini`, `full:<unit>`, `amount:1/8`, or of the method for a
            final model.
        seed: training seed; None where it is the recipe's.
        planned: its entry in `plan.json` (records, tokens, share), empty when it was not planned.
        weights: task -> weight that it trains with; empty where the method makes them itself.
        outcome: `outcome.json`, empty until the run is done.
        failure: message of the failure, or an empty text.
        losses: lines of `training.jsonl`.
        scores: (task, split) -> scores.
    """

    name: str
    seed: int | None
    kind: Kind
    paths: RunPaths
    planned: Mapping[str, Any]
    weights: Mapping[str, float]
    outcome: Mapping[str, Any]
    failure: str
    losses: tuple[Mapping[str, Any], ...]
    scores: Mapping[tuple[str, str], TaskScores]

    @property
    def label(self) -> str:
        """Its name, with the seed where that is not the recipe's."""
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"

    @property
    def status(self) -> Status:
        """How far the run is."""
        if self.outcome:
            return "done"
        if self.failure:
            return "failed"
        return "not finished" if self.paths.job.exists() else "not started"


@dataclass(frozen=True)
class Contents:
    """A run directory; `recipe`, `balance` and `matrix` are None, and the rest empty, where nothing
    exists yet.
    """

    directory: Path
    recipe: Recipe | None
    balance: Balance | None
    matrix: ScoreMatrix | None
    plan: Mapping[str, Any]
    runs: tuple[RunContents, ...]
    licences: tuple[tuple[Path, str], ...]

    @property
    def name(self) -> str:
        """Name of the job."""
        return self.recipe.name if self.recipe else self.directory.resolve().name

    @property
    def probes(self) -> tuple[RunContents, ...]:
        """The runs whose scores feed the equations."""
        return tuple(run for run in self.runs if run.kind == "probe")

    @property
    def finals(self) -> tuple[RunContents, ...]:
        """The final models."""
        return tuple(run for run in self.runs if run.kind == "final")

    @property
    def curve(self) -> tuple[RunContents, ...]:
        """The trainings on several amounts."""
        return tuple(run for run in self.runs if run.kind == "curve")

    def of_first_seed(self, runs: Sequence[RunContents]) -> tuple[RunContents, ...]:
        """Those of the recipe's training seed: one run of each name."""
        return tuple(run for run in runs if run.seed is None)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of the recipe."""
        if self.recipe:
            return tuple(task.name for task in self.recipe.mixture.tasks)
        if self.matrix:
            return self.matrix.tasks
        return self.balance.units if self.balance else ()

    @property
    def balanced(self) -> tuple[str, ...]:
        """Names of the tasks that take part in the probes, and so in the averages of Eq. 13 and
        14."""
        return (
            tuple(task.name for task in self.recipe.mixture.balanced) if self.recipe else self.tasks
        )

    def unit_of(self, task: str) -> str:
        """The unit that gives `task` its weight."""
        return self.recipe.mixture.unit_of(task) if self.recipe else task

    def metric_of(self, scores: TaskScores) -> str:
        """The metric that feeds the equations."""
        return (
            self.recipe.mixture[scores.task].metric if self.recipe else next(iter(scores.metrics))
        )


def read_contents(directory: Path) -> Contents:
    """Read a run directory.

    Raises:
        RunError: nothing in it can be reported.
    """
    files = RunDir(directory)
    if not any(path.exists() for path in (files.balance, files.score_table, files.plan)):
        raise RunError(
            f"{directory}: expected a run directory with {files.plan.name},"
            f" {files.score_table.name} or {files.balance.name}; found none of them; `cotbal"
            " balance RECIPE` makes one"
        )
    recipe = load_recipe(files.recipe) if files.recipe.exists() else None
    plan = read_json(files.plan) if files.plan.exists() else {}
    return Contents(
        directory=directory,
        recipe=recipe,
        balance=read_balance(files.balance) if files.balance.exists() else None,
        matrix=read_scores(files.score_table) if files.score_table.exists() else None,
        plan=plan,
        runs=tuple(_read_runs(directory, plan)),
        licences=_licences(recipe) if recipe else (),
    )


def read_balance(path: Path) -> Balance:
    """The inverse of `Balance.to_json`."""
    content = read_json(path)
    return Balance(
        units=tuple(content["units"]),
        form=content["form"],
        difficulty_form=content["difficulty_form"],
        temperature=content["temperature"],
        seeds=content["seeds"],
        shrunk=content["shrunk"],
        contribution=_array(content["contribution"]),
        outward=_array(content["outward"]),
        inward=_array(content["inward"]),
        difficulty=_array(content["difficulty"]),
        parts=_arrays(content["parts"]) or {},
        intervals=_arrays(content["intervals"]),
        part_intervals=_arrays(content["part_intervals"]),
        samples=content["samples"],
        needs=tuple(Need(**need) for need in content["needs"]),
        flags=tuple(Flag(**flag) for flag in content["flags"]),
        warnings=tuple(content["warnings"]),
    )


def _arrays(content: Mapping[str, Any] | None) -> dict[str, np.ndarray] | None:
    return None if content is None else {name: _array(values) for name, values in content.items()}


def _array(values: Any) -> np.ndarray:
    return np.array(values, dtype=float)  # null becomes NaN


def _read_runs(directory: Path, plan: Mapping[str, Any]) -> list[RunContents]:
    """The planned runs in their order, then what else lies in the directory."""
    planned = {directory / run["directory"]: run for run in plan.get("runs", [])}
    own = plan.get("seed", 0)
    runs = [_read_run(root, run["kind"], run, own) for root, run in planned.items()]
    kinds: tuple[tuple[Kind, str], ...] = (
        ("probe", "probes"),
        ("final", "final"),
        ("curve", "curve"),
    )
    for kind, folder in kinds:
        found = sorted((directory / folder).glob("*/"))
        runs += [
            _read_run(root, kind, {}, own)
            for root in found
            if root not in planned and not _moved_aside(root)
        ]
    return runs


def _moved_aside(root: Path) -> bool:
    return re.search(r"\.old-\d+$", root.name) is not None


def _read_run(root: Path, kind: Kind, planned: Mapping[str, Any], own: int) -> RunContents:
    paths = RunPaths(root)
    outcome = read_json(paths.outcome) if paths.done else {}
    name = planned.get("name") or outcome.get("run") or root.name.replace("full-", "full:", 1)
    seed = planned.get("seed", own)
    scores = [_read_scores(path) for path in sorted((root / "scores").glob("*.json"))]
    return RunContents(
        name=name,
        seed=None if seed == own else seed,
        kind=kind,
        paths=paths,
        planned=planned,
        weights=(read_json(paths.job).get("weights") or {}) if paths.job.exists() else {},
        outcome=outcome,
        failure=read_json(paths.failure)["message"] if paths.failure.exists() else "",
        losses=tuple(read_jsonl(paths.training)),
        scores={(found.task, found.split): found for found in scores},
    )


def _read_scores(path: Path) -> TaskScores:
    content = read_json(path)
    metrics = {name: _metric_scores(values) for name, values in content["metrics"].items()}
    return TaskScores(
        content["task"], content["split"], np.array(content["clusters"], dtype=int), metrics
    )


def _metric_scores(content: Mapping[str, Any]) -> MetricScores:
    known = content.get(f"{CONSTANT}samples")
    return MetricScores(
        score=content["score"],
        maximum=content["maximum"],
        measured=read_measured(content),
        constant=read_measured(content, CONSTANT).score if known else None,
        constant_answer=content.get("constant_answer") or "",
        source=content.get("source"),
    )


def _licences(recipe: Recipe) -> tuple[tuple[Path, str], ...]:
    """The licence texts beside the pictures and the records."""
    folders = [
        recipe.images,
        recipe.images.parent,
        *(task.train.parent for task in recipe.mixture.tasks),
    ]
    files = dict.fromkeys(folder.resolve() / LICENCES for folder in folders)
    return tuple(
        (file, file.read_text(encoding="utf-8", errors="replace"))
        for file in files
        if file.is_file()
    )
