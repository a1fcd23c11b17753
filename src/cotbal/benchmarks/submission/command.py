"""`cotbal submission`: finished models answer VQAv2 test-dev, and their answers become files for
its server.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal import plugins
from cotbal.benchmarks.academic.vqav2_server import ServerQuestions, write_submission
from cotbal.data.files import locked, move_aside, read_json, read_jsonl, write_json, write_jsonl
from cotbal.data.pictures import faults_of_pictures
from cotbal.errors import CotbalError, DataError, RunError, RunsFailed
from cotbal.jobs.execute import Options, consume, explain
from cotbal.jobs.executors import Job, forget_handle
from cotbal.jobs.inputs import checkpoint_digest, differences
from cotbal.jobs.queue import cancel_jobs, need_none_elsewhere, queued, record_driver
from cotbal.jobs.submission_paths import SubmissionPaths, submission_of
from cotbal.recipe.recipe import load_recipe
from cotbal.recipe.schema import ResourcesSection
from cotbal.training.run_paths import RunPaths

PIECE = 1024  # questions whose answers are kept together


@dataclass(frozen=True)
class Candidate:
    """One model that is asked.

    Attributes:
        name: of its run directory.
        paths: where questions, answers and the submission lie.
        job: what the job file holds.
        needs: what a run of its recipe needs.
        aside: whether answers on disk were made otherwise and move aside.
    """

    name: str
    paths: SubmissionPaths
    job: Mapping[str, Any]
    needs: ResourcesSection
    aside: bool

    def answers(self) -> list[dict[str, Any]]:
        """What the model has said so far, in the order of the questions."""
        return [row for path in self.paths.pieces for row in read_jsonl(path)]


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
        RunError: a directory is no finished run, or its answers were made otherwise and
            `restart_changed` is off.
        DataError: pictures of test2015 are missing.
        CotbalError: a recipe has no such task.
    """
    names = dict.fromkeys(candidate.image for candidate in questions.asked)
    faults = faults_of_pictures(images, names, decode=False)
    if faults:
        raise DataError(
            f"{len(faults):,} of {len(names):,} pictures of test2015 are not below {images}:"
            f" {next(iter(faults.values()))}; get test2015.zip of COCO, or name their directory"
            " with --images"
        )
    distinct = {run.resolve(): run for run in runs}
    return [_candidate(run, questions, images, task, restart_changed) for run in distinct.values()]


def _candidate(
    run: Path, questions: ServerQuestions, images: Path, task: str, restart_changed: bool
) -> Candidate:
    paths = RunPaths(run.resolve())
    # A job of several seeds has the runs of the others in `seed-N`, below its recipe.
    path = next(
        (p for up in (1, 2) if (p := paths.root.parents[up] / "recipe.yaml").exists()), None
    )
    if path is None or not (paths.checkpoint / "config.json").exists():
        raise RunError(
            f"{run}: expected the directory of a final model, such as runs/academic/final/fixed;"
            " found none"
        )
    recipe = load_recipe(path)
    if task not in recipe.file.tasks:
        raise CotbalError(
            f"--task: expected one of {', '.join(recipe.file.tasks)} as in {path}; found {task!r}"
        )
    instruction = recipe.mixture[task].instruction
    identity = {
        "checkpoint": checkpoint_digest(str(paths.checkpoint)),
        "questions": len(questions.asked),
        "instruction": instruction,
        "max_new_tokens": recipe.file.generation.max_new_tokens,
    }
    answers = submission_of(paths.root)
    changed = (
        differences(read_json(answers.job)["identity"], identity) if answers.job.exists() else []
    )
    if changed and not restart_changed:
        raise RunError(
            f"{answers.root} was made otherwise ({'; '.join(changed)}); --restart-changed moves it"
            " aside"
        )
    job = {
        "recipe": str(recipe.path),
        "checkpoint": str(paths.checkpoint),
        "images": str(images.resolve()),
        "questions": str(answers.questions),
        "task": task,
        "instruction": instruction,
        "identity": identity,
        "piece": PIECE,
    }
    name = paths.root.relative_to(path.parent.parent).as_posix()
    return Candidate(name, answers, job, recipe.resources, bool(changed))


def run_submission(
    candidates: Sequence[Candidate], questions: ServerQuestions, options: Options
) -> list[Written]:
    """Have every model answer what it has not answered yet, then write the files for the server.

    Raises:
        RunsFailed: jobs failed; the answers that were given are kept.
        RunError: another command, or a job of another queue, works on the same answers.
    """
    run = plugins.load("cotbal.jobs.executors", options.executor).run
    with ExitStack() as held:
        for candidate in candidates:
            held.enter_context(_locked(candidate, options.executor))
        complete = [
            candidate
            for candidate in candidates
            if len(candidate.answers()) >= len(questions.asked)
        ]
        todo = [
            _job(candidate, len(questions.asked))
            for candidate in candidates
            if candidate not in complete
        ]
        outcomes = (
            run(todo, options.resources) if todo else None
        )  # what cannot be done here is refused now
        for candidate in candidates:
            _prepare(candidate, questions, candidate in complete)
        if outcomes is not None:
            finished = [_job(candidate, len(questions.asked)) for candidate in complete]
            failures = consume(outcomes, todo, finished, options)
            if failures:
                raise RunsFailed(explain(failures, len(candidates), "models"))
        return [_written(candidate, questions) for candidate in candidates]


@contextmanager
def _locked(candidate: Candidate, executor: str) -> Iterator[None]:
    """Be the only command that works on the answers of a model, and noted there; old answers move
    aside before.
    """
    paths = candidate.paths
    if candidate.aside:
        with locked(paths.driver_lock):
            cancel_jobs(queued([paths.root]))
            move_aside(paths.root)
    with locked(paths.driver_lock):
        need_none_elsewhere([paths.root], executor)
        record_driver(paths.driver, executor)
        try:
            yield
        finally:
            paths.driver.unlink(missing_ok=True)


def _prepare(candidate: Candidate, questions: ServerQuestions, complete: bool) -> None:
    """Write what a job reads; forget what an earlier command left."""
    paths = candidate.paths
    write_jsonl(paths.questions, (vars(asked) for asked in questions.asked))
    write_json(paths.job, dict(candidate.job))
    paths.failure.unlink(missing_ok=True)
    if complete:
        forget_handle(paths.root)  # it ended while no driver was there


def _job(candidate: Candidate, cost: int) -> Job:
    command = (
        sys.executable,
        "-m",
        "cotbal.benchmarks.submission.worker",
        str(candidate.paths.job),
    )
    return Job(candidate.name, candidate.paths.root, command, cost, candidate.needs)


def _written(candidate: Candidate, questions: ServerQuestions) -> Written:
    rows = candidate.answers()
    if [row["id"] for row in rows] != [asked.id for asked in questions.asked]:
        raise RunError(
            f"{candidate.paths.root}: expected an answer to every question of test-dev; found"
            " others"
        )
    path = candidate.paths.file
    return Written(
        candidate.name,
        path,
        write_submission(path, questions, {row["id"]: row["answer"] for row in rows}),
    )
