"""An executor, given by its dotted path, whose jobs do what `cotbal.jobs.worker` does, with answers
made of chance.

`COTBAL_FAKE_FAIL` names runs that fail, separated by semicolons; every run that was done is added
to `COTBAL_FAKE_LOG`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from cotbal.data.files import (
    append_jsonl,
    default_cache,
    read_json,
    write_sealed,
    write_sealed_rows,
)
from cotbal.data.reading.records import open_records
from cotbal.data.sampling import read_manifest
from cotbal.jobs.executors import Job, Outcome, Resources, log_tail
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.scoring import write_scores
from cotbal.recipe.mixture import Task
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.training.run_paths import RunPaths

LEVELS = {"none": 0.1, "mini": 0.25, "large": 0.8, "full": 0.85}
EFFECT = 0.3  # of a weight on the score of its task in a trial: 2 ** 0.3 = 1.23 by doubling it
SMALLEST, GROWTH = 0.2, 0.6  # of a fraction: the level of none, and what all records add to it


def run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    """Write the files of every job, the longest first."""
    assert resources.workers is None or resources.workers > 0
    for job in sorted(jobs, key=lambda job: -job.cost):
        if job.name in os.environ.get("COTBAL_FAKE_FAIL", "").split(";"):
            (job.directory / "log.txt").write_text("loading\nRuntimeError: out of frogs\n")
            yield Outcome(
                job,
                False,
                0.1,
                f"{job.name} ended with exit code 1\n{log_tail(job.directory / 'log.txt')}",
            )
        else:
            _work(Path(job.command[-1]))
            yield Outcome(job, True, 0.1)


@lru_cache(maxsize=8)
def _recipe(path: Path, _content: bytes) -> Recipe:
    """Read once per content: all runs of a command have the same, and one does little else."""
    return load_recipe(path)


def _work(file: Path) -> None:
    job, paths = read_json(file), RunPaths(file.parent)
    root, run = RunDir(Path(job["root"])), job["run"]
    recipe = _recipe(root.recipe, root.recipe.read_bytes())
    records = 0
    for name, portion in run["portions"].items():
        records += len(read_manifest(root.portions(name)).of(portion))
    sets = [(recipe.mixture[name], "validation") for name in run["validation"]]
    sets += [
        (recipe.mixture[name], split) for name in run["test"] for split in recipe.mixture[name].test
    ]
    for task, split in sets:
        luck = _luck(run) * _effect(job, task.name)
        _answer(paths, task, split, run["portions"].get(task.name, "none"), luck)
    assert records == job["records"], "the manifest holds what was planned"
    weights = job["weights"] or dict.fromkeys(run["portions"], 1.0)
    append_jsonl(
        paths.training, {"step": 1, "epoch": 1.0, "loss": 1.0, "seconds": 2.0, **_losses(weights)}
    )
    training = {"steps": 1, "records": records, "tokens": records, "self_check": None}
    write_sealed(paths.trained, {**training, "seconds": 2.0, "checkpoint": None})
    seconds = {"training": 2.0, "generating": 1.0, "total": 3.0}
    facts = {"run": run["name"], "seconds": seconds, "threads": 1}
    more = {"peak_memory_mib": 100, "versions": {"torch": "0"}}
    write_sealed(paths.outcome, {**training, **facts, **more})
    if log := os.environ.get("COTBAL_FAKE_LOG"):
        append_jsonl(Path(log), run["name"])


def _losses(weights: dict[str, float]) -> dict[str, Any]:
    return {
        "task_losses": dict.fromkeys(weights, 1.0),
        "task_tokens": dict.fromkeys(weights, 9),
        "weights": weights,
    }


def _luck(run: dict[str, Any]) -> float:
    """A little that a run has by its name and seed."""
    return 0.9 + 0.02 * (sum(map(ord, run["name"])) % 5) + 0.05 * (run["seed"] % 3)


def _effect(job: dict[str, Any], task: str) -> float:
    """What the weight or ratio of a task does to its score in a trial; 1 without one."""
    if job["kind"] != "trial":
        return 1.0
    lever: dict[str, float] = job["weights"] or job["run"]["ratios"] or {}
    return lever.get(task, 1.0) ** EFFECT


def _level(portion: str) -> float:
    return LEVELS[portion] if portion in LEVELS else SMALLEST + GROWTH * float(Fraction(portion))


def _answer(paths: RunPaths, task: Task, split: str, portion: str, luck: float) -> None:
    """Answers that are right as often as the portion makes likely; the same questions are easy in
    every run.
    """
    path = task.validation if split == "validation" else task.test[split]
    assert path is not None
    rows = []
    for record in open_records(path, default_cache(), evaluation=True):
        level = _level(portion) * (luck if portion in ("full", "large") else luck + 0.1)
        right = random.Random(record.id).random() < level
        answer = record.references[0] if right else "no idea"
        question = record.turns[0].text
        rows.append(
            {
                "id": record.id,
                "images": list(record.images),
                "question": question,
                "references": list(record.references),
                "answer": answer,
            }
        )
    write_sealed_rows(paths.generations(task.name, split), rows)
    write_scores(
        paths, task.name, split, (task.metric,) if split == "validation" else task.test_metrics
    )
