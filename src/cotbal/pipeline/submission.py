"""`cotbal submission`: finished models answer VQAv2 test-dev, and their answers become files for its server."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal import plugins
from cotbal.data.pictures import faults_of_pictures
from cotbal.errors import CotbalError, DataError, RunError, RunsFailed
from cotbal.executors import Job, Resources
from cotbal.pipeline.inputs import checkpoint_digest, differences
from cotbal.pipeline.jobs import Watch
from cotbal.recipe import load_recipe
from cotbal.recipes.academic.vqav2_server import ServerQuestions, write_submission
from cotbal.rundir import RunPaths, locked, move_aside, read_json, read_jsonl, write_json, write_jsonl
from cotbal.sections import ResourcesSection

FOLDER = "vqav2_testdev"  # in the directory of a run
SUBMISSION = "submission.json"
PIECE = 1024  # questions whose answers are kept together


@dataclass(frozen=True)
class Candidate:
    """One model that is asked.

    Attributes:
        name: of its run directory.
        directory: where questions, answers and the submission lie.
        job: what the job file holds.
        needs: what a run of its recipe needs.
        aside: whether answers on disk were made otherwise and move aside.
    """

    name: str
    directory: Path
    job: Mapping[str, Any]
    needs: ResourcesSection
    aside: bool

    def answers(self) -> list[dict[str, Any]]:
        """What the model has said so far, in the order of the questions."""
        return [row for path in sorted(self.directory.glob("generations/*.jsonl")) for row in read_jsonl(path)]


@dataclass(frozen=True)
class Written:
    """The file for the server of one model, and how many of its answers are not empty."""

    name: str
    path: Path
    answered: int


def plan_submission(
    runs: Sequence[Path], questions: ServerQuestions, images: Path, task: str, restart_changed: bool
) -> list[Candidate]:
    """Look through the runs and the pictures; nothing is written.

    Raises:
        RunError: a directory is no finished run, or its answers were made otherwise and `restart_changed` is off.
        DataError: pictures of test2015 are missing.
        CotbalError: a recipe has no such task.
    """
    names = dict.fromkeys(each.image for each in questions.asked)
    faults = faults_of_pictures(images, names, decode=False)
    if faults:
        raise DataError(
            f"{len(faults):,} of {len(names):,} pictures of test2015 are not below {images}: "
            f"{next(iter(faults.values()))}; get test2015.zip of COCO, or name their directory with --images"
        )
    return [_candidate(run, questions, images, task, restart_changed) for run in runs]


def _candidate(run: Path, questions: ServerQuestions, images: Path, task: str, restart_changed: bool) -> Candidate:
    paths = RunPaths(run.resolve())
    # A job of several seeds has the runs of the others in `seed-N`, below its recipe.
    path = next((p for up in (1, 2) if (p := paths.root.parents[up] / "recipe.yaml").exists()), None)
    if path is None or not (paths.checkpoint / "config.json").exists():
        raise RunError(f"{run}: expected the directory of a final model, such as runs/academic/final/fixed; found none")
    recipe = load_recipe(path)
    if task not in recipe.file.tasks:
        raise CotbalError(f"--task: expected one of {', '.join(recipe.file.tasks)} as in {path}; found {task!r}")
    instruction = recipe.mixture[task].instruction
    identity = {
        "checkpoint": checkpoint_digest(str(paths.checkpoint)),
        "questions": len(questions.asked),
        "instruction": instruction,
        "max_new_tokens": recipe.file.generation.max_new_tokens,
    }
    directory = paths.root / FOLDER
    changed = differences(read_json(directory / "job.json")["identity"], identity) if _is_job(directory) else []
    if changed and not restart_changed:
        raise RunError(f"{directory} was made otherwise ({'; '.join(changed)}); --restart-changed moves it aside")
    job = {
        "recipe": str(recipe.path), "checkpoint": str(paths.checkpoint), "images": str(images.resolve()),
        "questions": str(directory / "questions.jsonl"), "task": task, "instruction": instruction, "identity": identity,
        "piece": PIECE,
    }  # fmt: skip
    name = paths.root.relative_to(path.parent.parent).as_posix()
    return Candidate(name, directory, job, recipe.resources, bool(changed))


def _is_job(directory: Path) -> bool:
    return (directory / "job.json").exists()


def carry_out(
    candidates: Sequence[Candidate], questions: ServerQuestions, executor: str, resources: Resources, watch: Watch
) -> list[Written]:
    """Have every model answer what it has not answered yet, then write the files for the server.

    Raises:
        RunsFailed: jobs failed; the answers that were given are kept.
    """
    with ExitStack() as held:
        for each in candidates:
            if each.aside:
                move_aside(each.directory)
            held.enter_context(locked(each.directory / "driver.lock"))
            write_jsonl(each.directory / "questions.jsonl", (vars(asked) for asked in questions.asked))
            write_json(each.directory / "job.json", dict(each.job))
            (each.directory / "failure.json").unlink(missing_ok=True)
        _answer(candidates, questions, executor, resources, watch)
        return [_written(each, questions) for each in candidates]


def _answer(
    candidates: Sequence[Candidate], questions: ServerQuestions, executor: str, resources: Resources, watch: Watch
) -> None:
    run = plugins.load("cotbal.executors", executor).run
    waiting = [each for each in candidates if len(each.answers()) < len(questions.asked)]
    jobs = {each.name: _job(each, len(questions.asked)) for each in candidates}
    todo = [jobs[each.name] for each in waiting]
    finished = [jobs[each.name] for each in candidates if each not in waiting]
    failures = []
    with watch(todo, finished) as show:
        for outcome in run(todo, resources) if todo else ():
            show(outcome)
            failures += [] if outcome.ok else [outcome.message]
    if failures:
        raise RunsFailed(f"{len(failures)} of {len(candidates)} models failed\n" + "\n".join(failures))


def _job(candidate: Candidate, cost: int) -> Job:
    command = (sys.executable, "-m", "cotbal.answering", str(candidate.directory / "job.json"))
    return Job(candidate.name, candidate.directory, command, cost, candidate.needs)


def _written(candidate: Candidate, questions: ServerQuestions) -> Written:
    rows = candidate.answers()
    if [row["id"] for row in rows] != [asked.id for asked in questions.asked]:
        raise RunError(f"{candidate.directory}: expected an answer to every question of test-dev; found others")
    path = candidate.directory / SUBMISSION
    return Written(candidate.name, path, write_submission(path, questions, {row["id"]: row["answer"] for row in rows}))
