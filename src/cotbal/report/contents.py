"""The content of a run directory, read for a report; what does not exist yet is left empty."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cotbal.balance import Balance
from cotbal.balance.probes import BASE, MINI, full_run, solo_mini_run, solo_run
from cotbal.data.files import as_written, digest_of, need_sealed, read_json
from cotbal.errors import RunError
from cotbal.jobs.losses import read_losses
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import UNTRAINED, sampled_by
from cotbal.report.crowds import MANY, ends
from cotbal.scores.matrix import ScoreMatrix, read_scores
from cotbal.scores.task_scores import TaskScores, task_scores
from cotbal.training.run_paths import RunPaths

LICENCES = "LICENCES.md"
Status = Literal["done", "failed", "not finished", "not started"]
Kind = Literal["probe", "final", "curve", "trial"]


@dataclass(frozen=True)
class RunContents:
    """One run: a probe, a final model, a point of the curve, or a trial.

    Attributes:
        name: that of the run, such as `mini`, `full:<unit>`, `fraction:1/8`, or of the method for a
            final model.
        seed: training seed; None where it is the recipe's.
        planned: its entry in `plan.json` (records, tokens, share), empty if it was not planned.
        weights: task -> weight of its loss; empty where the method computes them during training.
        ratios: task -> sampling ratio, relative to the sampling of the recipe; empty where they are
            equal.
        sampled: task -> ratio that its records were sampled by, all in all; empty where each was
            shown once per epoch.
        outcome: `outcome.json`, empty until the run is done.
        failure: message of the failure, or an empty text.
        losses: lines of `training.jsonl`; none if they are `damaged`.
        scores: (task, split) -> scores.
        damaged: whether `training.jsonl` is missing, or is not as the training wrote it.
    """

    name: str
    seed: int | None
    kind: Kind
    paths: RunPaths
    planned: Mapping[str, Any]
    weights: Mapping[str, float]
    ratios: Mapping[str, float]
    sampled: Mapping[str, float]
    outcome: Mapping[str, Any]
    failure: str
    losses: tuple[Mapping[str, Any], ...]
    scores: Mapping[tuple[str, str], TaskScores]
    damaged: bool = False

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
        finals = [run for run in self.runs if run.kind == "final"]
        return tuple(run for run in finals if run.name != UNTRAINED)

    @property
    def untrained(self) -> RunContents | None:
        """The base checkpoint on the tasks that are only evaluated, if it is done."""
        for run in self.runs:
            if run.name == UNTRAINED and run.status == "done":
                return run
        return None

    @property
    def curve(self) -> tuple[RunContents, ...]:
        """The trainings on fractions of the data."""
        return tuple(run for run in self.runs if run.kind == "curve")

    @property
    def trials(self) -> tuple[RunContents, ...]:
        """The trainings that differ in the weights of their tasks, of all seeds."""
        return tuple(run for run in self.runs if run.kind == "trial")

    def of_first_seed(self, runs: Sequence[RunContents]) -> tuple[RunContents, ...]:
        """Those of the recipe's training seed: one run of each name."""
        return tuple(run for run in runs if run.seed is None)

    def compared(self, runs: Sequence[RunContents], task: str) -> Sequence[RunContents]:
        """The runs to show beside each other for a task: all, or of many the first and its own."""
        if len(runs) <= MANY:
            return runs
        unit = self.unit_of(task)
        names = (MINI, BASE, full_run(unit), solo_run(unit), solo_mini_run(unit))
        return [run for run in runs if run.name in names]

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
        if self.balance:
            return self.balance.units
        return ()

    @property
    def drawn(self) -> tuple[str, ...]:
        """Tasks with a panel and examples of their own: all, or of many those with the largest and
        the smallest weights.
        """
        tasks = self.tasks
        if len(tasks) <= MANY:
            return tasks
        weights = self.balance.weights if self.balance else {}
        places = ends([weights.get(self.unit_of(task), math.nan) for task in tasks])
        return tuple(tasks[i] for i in places)

    @property
    def balanced(self) -> tuple[str, ...]:
        """Names of the tasks in the probes, and so in the averages of Eq. 13 and 14."""
        if self.recipe is None:
            return self.tasks
        return tuple(task.name for task in self.recipe.mixture.balanced)

    @property
    def only_evaluated(self) -> tuple[str, ...]:
        """Names of the tasks without training data."""
        if self.recipe is None:
            return ()
        return tuple(task.name for task in self.recipe.mixture.only_evaluated)

    def unit_of(self, task: str) -> str:
        """The unit that gives `task` its weight."""
        if self.recipe is None:
            return task
        return self.recipe.mixture.unit_of(task)

    def metric_of(self, scores: TaskScores) -> str:
        """The metric that feeds the equations."""
        first = next(iter(scores.metrics), "")
        return self.metric_name(scores.task, first)

    def metric_name(self, task: str, default: str) -> str:
        """The metric of `task` that feeds the equations; `default` where there is no recipe."""
        if self.recipe is None:
            return default
        return self.recipe.mixture[task].metric


def read_contents(directory: Path) -> Contents:
    """Read a run directory.

    Raises:
        RunError: nothing in it can be reported.
    """
    files = RunDir(directory)
    needed = (files.plan, files.score_table, files.balance, files.trial_table)
    if not any(path.exists() for path in needed):
        names = ", ".join(str(path.relative_to(directory)) for path in needed)
        raise RunError(
            f"{directory}: expected a run directory with one of {names}; none of them exists."
            " `cotbal balance RECIPE` and `cotbal response RECIPE` write them.",
            "no-run-directory",
        )
    recipe = load_recipe(files.recipe) if files.recipe.exists() else None
    plan = _json_or_empty(files.plan)
    default_seed = recipe.file.optimization.seed if recipe else 0
    seed = plan.get("seed", default_seed)
    content = _json_or_empty(files.balance)
    with as_written(files.balance):
        balance = Balance.from_json(content) if content else None
    return Contents(
        directory=directory,
        recipe=recipe,
        balance=balance,
        matrix=_matrix(files.score_table),
        plan=plan,
        seed=seed,
        runs=tuple(_read_runs(directory, bool(plan), seed)),
        licences=_licences(recipe) if recipe else (),
    )


def _matrix(path: Path) -> ScoreMatrix | None:
    if not path.exists():
        return None
    if digest_of(path).exists():
        need_sealed(path)
    return read_scores(path)


def _json_or_empty(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty where there is no such file."""
    if not path.exists():
        return {}
    with as_written(path):
        content: dict[str, Any] = dict(read_json(path))
    return content


def _read_runs(directory: Path, has_plan: bool, seed: int) -> list[RunContents]:
    """The planned runs in their order, then other runs in the directory."""
    entries = RunDir(directory).planned() if has_plan else []
    planned = {directory / run["directory"]: run for run in entries}
    runs = [_read_run(root, run["kind"], run, seed) for root, run in planned.items()]
    folders: dict[Kind, str] = {
        "probe": "probes",
        "final": "final",
        "curve": "curve",
        "trial": "trials",
    }
    for kind, folder in folders.items():
        roots = (directory / folder).glob("*/")
        for root in sorted(roots):
            if root not in planned and not _is_archived(root):
                runs.append(_read_run(root, kind, {}, seed))
    return runs


def _is_archived(root: Path) -> bool:
    return re.search(r"\.old-\d+$", root.name) is not None


def _read_run(root: Path, kind: Kind, planned: Mapping[str, Any], recipe_seed: int) -> RunContents:
    paths = RunPaths(root)
    outcome = _json_or_empty(paths.outcome)
    from_folder = re.sub("^(full|trial)-", r"\1:", root.name)
    with as_written(paths.outcome):
        name = planned.get("name") or outcome.get("run") or from_folder
        if not isinstance(name, str):
            raise TypeError("the name of a run is a string")
    seed = planned.get("seed", recipe_seed)
    job = _json_or_empty(paths.job)
    failure = _json_or_empty(paths.failure)
    with as_written(paths.failure):
        message = str(failure["message"]) if failure else ""
    with as_written(paths.job):
        weights = dict(job.get("weights") or {})
        ratios, sampled = _ratios(job)
    losses = _losses(paths)
    scores = {}
    files = (root / "scores").glob("*.json")
    for path in sorted(files):
        with as_written(path):
            of_split = task_scores(read_json(path))
            scores[of_split.task, of_split.split] = of_split
    return RunContents(
        name=name,
        seed=None if seed == recipe_seed else seed,
        kind=kind,
        paths=paths,
        planned=planned,
        weights=weights,
        ratios=ratios,
        sampled=sampled,
        outcome=outcome,
        failure=message,
        losses=losses or (),
        scores=scores,
        damaged=losses is None,
    )


def _losses(paths: RunPaths) -> tuple[Mapping[str, Any], ...] | None:
    """The losses of a run; None if they are damaged, which no score depends on."""
    try:
        return tuple(read_losses(paths))
    except RunError:
        return None


def _ratios(job: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Ratios relative to the sampling of the recipe, and both together."""
    run = job.get("run")
    if not isinstance(run, dict):
        return {}, {}
    ratios, sampling = run.get("ratios") or {}, run.get("sampling") or {}
    return ratios, dict(sampled_by(ratios, sampling) or {})


def _licences(recipe: Recipe) -> tuple[tuple[Path, str], ...]:
    """The licence texts beside the images and the records."""
    folders = [recipe.images, recipe.images.parent]
    for task in recipe.mixture.tasks:
        folders.append(task.folder)
    texts: dict[Path, str] = {}
    for folder in folders:
        file = folder.resolve() / LICENCES
        if file.is_file() and file not in texts:
            texts[file] = file.read_text(encoding="utf-8", errors="replace")
    return tuple(texts.items())
