"""The answers to judge, and the files of the judgements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal.benchmarks.judge.pairs import Pair, read_pairs
from cotbal.data.files import read_json, read_jsonl, read_sealed_rows
from cotbal.errors import DataError, RunError
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.scoring import describe
from cotbal.recipe.mixture import Task
from cotbal.recipe.recipe import load_recipe
from cotbal.training.run_paths import Below, RunPaths

METRIC = "judge"


@dataclass(frozen=True)
class AnswerSet:
    """Answers of one run to one split of one task.

    Attributes:
        name: run, task and split, for people.
        pairs: in the order of the file.
        scores: file of their scores, existing or not.
        head: content of a new file of scores.
    """

    name: str
    pairs: tuple[Pair, ...]
    scores: Path
    head: Mapping[str, Any]

    def read_scores(self) -> dict[str, Any]:
        """Content of the file of scores; the head where there is no file yet."""
        return dict(read_json(self.scores) if self.scores.exists() else self.head)


@dataclass(frozen=True)
class Answers:
    """All answers of a run directory or file.

    Attributes:
        root: directory of the judgements.
        lock: held while a command works there.
        sets: everything to be judged.
        unfinished: number of runs whose answers are still missing.
    """

    root: Path
    lock: Path
    sets: tuple[AnswerSet, ...]
    unfinished: int = 0

    settings = Below("settings.json")  # the judge
    judgements = Below("judgements.jsonl")  # every reply
    summary = Below("summary.json")  # scores by category

    @property
    def pairs(self) -> list[Pair]:
        """The pairs of all sets, in their order."""
        return [pair for answers in self.sets for pair in answers.pairs]


def find_answers(where: Path) -> Answers:
    """The answers of a run directory whose task has the metric `judge`, or those of one file.

    Raises:
        CotbalError: there are none.
    """
    if where.is_file():
        return _of_file(where)
    root = RunDir(where)
    if not root.plan.exists():
        raise RunError(
            f"{where}: expected a run directory with a plan.json, or a file of answers; found"
            " neither",
            "missing-file",
        )
    recipe = load_recipe(root.recipe)
    runs = [RunPaths(where / entry["directory"]) for entry in root.planned()]
    tasks = {task.name: task for task in recipe.mixture.tasks}
    done = [paths for paths in runs if paths.done]
    sets = [answers for paths in done for answers in _of_run(where, paths, tasks)]
    if not sets:
        judged = any(METRIC in (task.metric, *task.test_metrics) for task in tasks.values())
        why = "no run is done yet" if judged else f"no task of the recipe has the metric {METRIC}"
        raise RunError(
            f"{where}: expected answers to judge; found none, since {why}", "missing-results"
        )
    return Answers(where / METRIC, root.lock, tuple(sets), len(runs) - len(done))


def _of_run(root: Path, paths: RunPaths, tasks: Mapping[str, Task]) -> list[AnswerSet]:
    sets = []
    for file in sorted(paths.root.glob("scores/*.json")):
        content = read_json(file)
        name, split = content["task"], content["split"]
        if METRIC in _metrics(tasks.get(name), split):
            source = paths.generations(name, split)
            title = f"{paths.root.relative_to(root)}, {name}, {split}"
            sets.append(
                AnswerSet(title, read_pairs(read_sealed_rows(source), source), file, content)
            )
    return sets


def _metrics(task: Task | None, split: str) -> Sequence[str | None]:
    if task is None:
        return ()
    return (task.metric,) if split == "validation" else task.test_metrics


def _of_file(path: Path) -> Answers:
    rows = read_jsonl(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.split("\n") if line.strip()]
    if not rows or len(rows) < len(lines):
        raise DataError(
            f"{path}, line {len(rows) + 1}: expected answers as JSON, one per line; found something"
            " else",
            "broken-file",
        )
    pairs = read_pairs(rows, path)
    images = [{"images": row.get("images") or []} for row in rows]
    root = path.with_name(f"{path.name}.{METRIC}")
    head = {**describe(images), "metrics": {}}
    return Answers(root, root / "lock", (AnswerSet(path.name, pairs, root / "scores.json", head),))
