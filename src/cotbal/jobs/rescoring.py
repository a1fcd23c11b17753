"""`cotbal rescore`: score the kept answers of a run directory again, and the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cotbal.data.files import locked, read_json
from cotbal.errors import CotbalError
from cotbal.jobs.response import refresh_trials
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.scoring import read_scores_file, write_scores
from cotbal.jobs.weigh import weigh, write_weights
from cotbal.recipe.mixture import Task
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.scores.measure import given_by, load_metric
from cotbal.training.run_paths import RunPaths


@dataclass(frozen=True)
class Rescored:
    """One score of one run, before and after; `before` is None where there was none."""

    run: str
    task: str
    split: str
    metric: str
    before: float | None
    after: float


@dataclass(frozen=True)
class Rescoring:
    """Recomputed scores, and the weights (unit -> weight) before and after, if there are any."""

    scores: tuple[Rescored, ...]
    before: dict[str, float]
    after: dict[str, float]


def rescore(root: RunDir, step: Callable[[str, int, int], None]) -> Rescoring:
    """Score the answers of every finished run again with the metrics of its recipe and those in its
    files of scores, then recompute the weights and the table of trials.

    Scores that another command gives, a judge's, are kept.

    Args:
        step: called with (what, done, total).

    Raises:
        RunError: this is no run directory, or another command works there.
        CotbalError: a metric of the recipe cannot be loaded or used.
    """
    root.planned()  # before a lock file is written
    with locked(root.lock):
        recipe, before = load_recipe(root.recipe), _weights(root)
        sets = list(_answered(root, recipe))
        scores: list[Rescored] = []
        for done, (paths, task, split) in enumerate(sets):
            step("scoring", done, len(sets))
            scores += _rescored(root, paths, task, split)
        if root.balance.exists():
            _weigh(root, recipe, before)
        refresh_trials(root)
        return Rescoring(tuple(scores), before, _weights(root))


def _weigh(root: RunDir, recipe: Recipe, before: dict[str, float]) -> None:
    """Weights from the new scores; those that a user gave with `--weights` stay as they are."""
    given = bool(before) and before != read_json(root.balance)["weights"]
    weigh(root)
    if given:
        write_weights(root, recipe.mixture, before)


def _weights(root: RunDir) -> dict[str, float]:
    return dict(read_json(root.weights)["weights"]) if root.weights.exists() else {}


def _answered(root: RunDir, recipe: Recipe) -> Iterator[tuple[RunPaths, Task, str]]:
    """Every evaluation set that a finished run answered: a task and a split."""
    for entry in root.planned():
        paths = RunPaths(root.root / entry["directory"])
        for task in recipe.mixture.tasks if paths.done else ():
            for split in ("validation", *task.test):
                if paths.generations(task.name, split).exists():
                    yield paths, task, split


def _rescored(root: RunDir, paths: RunPaths, task: Task, split: str) -> Iterator[Rescored]:
    before = read_scores_file(paths, task.name, split)["metrics"]
    metrics = dict.fromkeys((*task.metrics_of(split), *filter(_can_be_loaded, before)))
    computed = [metric for metric in metrics if not given_by(metric)]
    write_scores(paths, task.name, split, computed)
    after = read_scores_file(paths, task.name, split)["metrics"]
    run = str(paths.root.relative_to(root.root))
    for metric in computed:
        score = before[metric]["score"] if metric in before else None
        yield Rescored(run, task.name, split, metric, score, after[metric]["score"])


def _can_be_loaded(metric: str) -> bool:
    """False for a metric of an earlier recipe whose module is gone; its scores are left alone."""
    try:
        load_metric(metric)
    except (CotbalError, ImportError):
        return False
    return True
