"""The content of a run directory, read for a report; what does not exist yet is left empty."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cotbal.balance import Balance
from cotbal.data.files import read_json, read_jsonl
from cotbal.errors import RunError
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.scores.matrix import ScoreMatrix, read_scores
from cotbal.scores.task_scores import TaskScores, task_scores
from cotbal.training.run_paths import RunPaths

LICENCES = "LICENCES.md"
Status = Literal["done", "failed", "not finished", "not started"]
Kind = Literal["probe", "final", "curve"]


@dataclass(frozen=True)
class RunContents:
    """One run: a probe, a final model, or a point of the curve.

    Attributes:
        name: that of the run, such as `mini`, `full:<unit>`, `fraction:1/8`, or of the method for a
            final model.
        seed: training seed; None where it is the recipe's.
        planned: its entry in `plan.json` (records, tokens, share), empty if it was not planned.
        weights: task -> weight of its loss; empty where the method computes them during training.
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
    exists yet. `seed` is the training seed of the recipe.
    """

    directory: Path
    recipe: Recipe | None
    balance: Balance | None
    matrix: ScoreMatrix | None
    plan: Mapping[str, Any]
    seed: int
    runs: tuple[RunContents, ...]
    licences: tuple[tuple[Path, str], ...]

    @property
    def name(self) -> str:
        """The name in the recipe, or that of the directory."""
        return self.recipe.name if self.recipe else self.directory.resolve().name

    @property
    def probes(self) -> tuple[RunContents, ...]:
        """The runs whose scores feed the equations, of all seeds."""
        return tuple(run for run in self.runs if run.kind == "probe")

    @property
    def finals(self) -> tuple[RunContents, ...]:
        """The final models, of all methods and seeds."""
        return tuple(run for run in self.runs if run.kind == "final")

    @property
    def curve(self) -> tuple[RunContents, ...]:
        """The trainings on fractions of the data."""
        return tuple(run for run in self.runs if run.kind == "curve")

    def of_first_seed(self, runs: Sequence[RunContents]) -> tuple[RunContents, ...]:
        """Those of the recipe's training seed: one run of each name."""
        return tuple(run for run in runs if run.seed is None)

    def seed_of(self, run: RunContents) -> int:
        """Its training seed."""
        return self.seed if run.seed is None else run.seed

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
        """Names of the tasks in the probes, and so in the averages of Eq. 13 and 14."""
        if self.recipe is None:
            return self.tasks
        return tuple(task.name for task in self.recipe.mixture.balanced)

    def unit_of(self, task: str) -> str:
        """The unit that gives `task` its weight."""
        return self.recipe.mixture.unit_of(task) if self.recipe else task

    def metric_of(self, scores: TaskScores) -> str:
        """The metric that feeds the equations."""
        return self.metric_name(scores.task, next(iter(scores.metrics), ""))

    def metric_name(self, task: str, default: str) -> str:
        """The metric of `task` that feeds the equations; `default` where there is no recipe."""
        return self.recipe.mixture[task].metric if self.recipe else default


def read_contents(directory: Path) -> Contents:
    """Read a run directory.

    Raises:
        RunError: nothing in it can be reported.
    """
    files = RunDir(directory)
    if not any(path.exists() for path in (files.balance, files.score_table, files.plan)):
        raise RunError(
            f"{directory}: expected a run directory with {files.plan.name},"
            f" {files.score_table.name} or {files.balance.name}; none of them exists. `cotbal"
            " balance RECIPE` writes them.",
            "no-run-directory",
        )
    recipe = load_recipe(files.recipe) if files.recipe.exists() else None
    plan = read_json(files.plan) if files.plan.exists() else {}
    seed = plan.get("seed", recipe.file.optimization.seed if recipe else 0)
    balance = Balance.from_json(read_json(files.balance)) if files.balance.exists() else None
    return Contents(
        directory=directory,
        recipe=recipe,
        balance=balance,
        matrix=read_scores(files.score_table) if files.score_table.exists() else None,
        plan=plan,
        seed=seed,
        runs=tuple(_read_runs(directory, plan, seed)),
        licences=_licences(recipe) if recipe else (),
    )


def _read_runs(directory: Path, plan: Mapping[str, Any], seed: int) -> list[RunContents]:
    """The planned runs in their order, then other runs in the directory."""
    planned = {directory / run["directory"]: run for run in plan.get("runs", [])}
    runs = [_read_run(root, run["kind"], run, seed) for root, run in planned.items()]
    folders: dict[Kind, str] = {"probe": "probes", "final": "final", "curve": "curve"}
    for kind, folder in folders.items():
        for root in sorted((directory / folder).glob("*/")):
            if root not in planned and not _is_archived(root):
                runs.append(_read_run(root, kind, {}, seed))
    return runs


def _is_archived(root: Path) -> bool:
    return re.search(r"\.old-\d+$", root.name) is not None


def _read_run(root: Path, kind: Kind, planned: Mapping[str, Any], recipe_seed: int) -> RunContents:
    paths = RunPaths(root)
    outcome = read_json(paths.outcome) if paths.done else {}
    name = planned.get("name") or outcome.get("run") or root.name.replace("full-", "full:", 1)
    seed = planned.get("seed", recipe_seed)
    scores = [task_scores(read_json(path)) for path in sorted((root / "scores").glob("*.json"))]
    return RunContents(
        name=name,
        seed=None if seed == recipe_seed else seed,
        kind=kind,
        paths=paths,
        planned=planned,
        weights=(read_json(paths.job).get("weights") or {}) if paths.job.exists() else {},
        outcome=outcome,
        failure=read_json(paths.failure)["message"] if paths.failure.exists() else "",
        losses=tuple(read_jsonl(paths.training)),
        scores={(of_task.task, of_task.split): of_task for of_task in scores},
    )


def _licences(recipe: Recipe) -> tuple[tuple[Path, str], ...]:
    """The licence texts beside the images and the records."""
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
