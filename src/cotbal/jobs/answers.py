"""Which answers wait for a judge, and where what it says is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal.benchmarks.judge.pairs import Pair, read_pairs
from cotbal.errors import DataError, RunError
from cotbal.jobs.plan import Planned, Prepared
from cotbal.jobs.rundir import RunDir, RunPaths, read_json, read_jsonl
from cotbal.jobs.scoring import awaited, describe
from cotbal.recipe.mixture import Task
from cotbal.recipe.recipe import load_recipe
from cotbal.scores.measure import given_by

METRIC = "judge"


@dataclass(frozen=True)
class AnswerSet:
    """Answers of one run to one split of one task.

    Attributes:
        name: run, task and split, in words.
        pairs: in the order of the file.
        scores: file that holds, or will hold, their scores.
        head: what a new file of scores holds beside them.
    """

    name: str
    pairs: tuple[Pair, ...]
    scores: Path
    head: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where answers are and where judgements go.

    Attributes:
        directory: holds `settings.json`, `judgements.jsonl` and `summary.json`.
        lock: held while a command works there.
        sets: everything to be judged.
        unfinished: runs whose answers are not there yet.
    """

    directory: Path
    lock: Path
    sets: tuple[AnswerSet, ...]
    unfinished: int = 0

    @property
    def settings(self) -> Path:
        """Who judged here."""
        return self.directory / "settings.json"

    @property
    def judgements(self) -> Path:
        """Every reply."""
        return self.directory / "judgements.jsonl"


def find_answers(where: Path) -> Place:
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
            " neither"
        )
    recipe = load_recipe(root.recipe)
    runs = [RunPaths(where / entry["directory"]) for entry in read_json(root.plan)["runs"]]
    done = [paths for paths in runs if paths.done]
    sets = [
        each
        for paths in done
        for each in _of_run(where, paths, {t.name: t for t in recipe.mixture.tasks})
    ]
    if not sets:
        named = any(METRIC in (task.metric, *task.test_metrics) for task in recipe.mixture.tasks)
        why = "no run is done yet" if named else f"no task of the recipe has the metric {METRIC}"
        raise RunError(f"{where}: expected answers to judge; found none, since {why}")
    return Place(where / METRIC, root.lock, tuple(sets), len(runs) - len(done))


def _of_run(root: Path, paths: RunPaths, tasks: Mapping[str, Task]) -> list[AnswerSet]:
    found = []
    for file in sorted(paths.root.glob("scores/*.json")):
        content = read_json(file)
        task = tasks.get(content["task"])
        metrics = (
            ()
            if task is None
            else (task.metric,)
            if content["split"] == "validation"
            else task.test_metrics
        )
        if METRIC in metrics:
            source = paths.generations(content["task"], content["split"])
            name = f"{paths.root.relative_to(root)}, {content['task']}, {content['split']}"
            found.append(AnswerSet(name, read_pairs(read_jsonl(source), source), file, content))
    return found


def _of_file(path: Path) -> Place:
    rows = read_jsonl(path)
    lines = sum(
        bool(line.strip())
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n")
    )
    if not rows or len(rows) < lines:
        raise DataError(
            f"{path}, line {len(rows) + 1}: expected answers as JSON, one a line; found something"
            " else"
        )
    pairs = read_pairs(rows, path)
    directory = path.with_name(f"{path.name}.{METRIC}")
    scores = AnswerSet(
        path.name,
        pairs,
        directory / "scores.json",
        {**describe(_with_pictures(rows)), "metrics": {}},
    )
    return Place(directory, directory / "lock", (scores,))


def _with_pictures(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"images": row.get("images") or []} for row in rows]


def need_scores(prepared: Prepared, planned: Sequence[Planned]) -> None:
    """Stop where finished runs wait for a judge.

    Raises:
        RunError: it says how many, and what to do.
    """
    mixture = prepared.recipe.mixture
    waiting: dict[str, str] = {}
    for p in planned:
        sets = [(name, "validation", (mixture[name].metric,)) for name in p.run.validation]
        tests = [
            (name, split, mixture[name].test_metrics)
            for name in p.run.test
            for split in mixture[name].test
        ]
        missing = [metric for each in (*sets, *tests) for metric in awaited(p.paths, *each)]
        if missing:
            waiting[p.label] = missing[0]
    if waiting:
        command = given_by(next(iter(waiting.values())))
        raise RunError(
            f"{prepared.root.root}: the runs are done and wait for scores ({', '.join(waiting)}): "
            f"`{command} {prepared.root.root}` gives them, then the same command goes on"
        )
