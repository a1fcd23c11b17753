"""`cotbal submission`: finished models answer VQAv2 test-dev, and their answers become files for
its server.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal import plugins
from cotbal.benchmarks.academic.vqav2_server import ServerQuestions, write_submission
from cotbal.data.checks.special_tokens import read_special_tokens
from cotbal.data.files import (
    as_written,
    locked,
    read_json,
    read_sealed_rows,
    write_sealed,
    write_sealed_rows,
)
from cotbal.data.reading.images import problems_of_images
from cotbal.data.reading.record import IMAGE
from cotbal.errors import CotbalError, DataError, RunError
from cotbal.jobs.checkpoint_files import checkpoint_stat, need_whole_checkpoint
from cotbal.jobs.execute import Options, follow
from cotbal.jobs.executors import Job, forget_handle
from cotbal.jobs.inputs import CODE_VERSION, differences
from cotbal.jobs.queue import archive_run, need_none_elsewhere, record_driver, release
from cotbal.jobs.rundir import SubmissionPaths, submission_of
from cotbal.recipe.recipe import load_recipe
from cotbal.recipe.schema import ResourcesSection
from cotbal.training.run_paths import RunPaths

PIECE = 1024  # questions whose answers are kept together


@dataclass(frozen=True)
class Candidate:
    """One model that answers.

    Attributes:
        name: of its run directory.
        paths: of questions, answers and the submission.
        job: content of the job file.
        needs: resources of a run of its recipe.
        changed: whether answers on disk were made with other settings, and are archived.
    """

    name: str
    paths: SubmissionPaths
    job: Mapping[str, Any]
    needs: ResourcesSection
    changed: bool

    def answers(self) -> list[dict[str, Any]]:
        """Those on disk, in the order of the questions."""
        return [row for path in self.paths.pieces for row in read_sealed_rows(path)]


@dataclass(frozen=True)
class Written:
    """The file for the server of one model, and how many of its answers are not empty."""

    name: str
    path: Path
    answered: int


def plan_submission(
    runs: Sequence[Path], questions: ServerQuestions, images: Path, task: str, restart_changed: bool
) -> list[Candidate]:
    """Look through the runs and the images; nothing is written.

    Raises:
        RunError: a directory is no finished run, or its answers were made with other settings and
            `restart_changed` is off.
        DataError: images of test2015 are missing, or a question holds a special token.
        CotbalError: a recipe has no such task.
    """
    names = dict.fromkeys(question.image for question in questions.asked)
    missing = problems_of_images(images, list(names), decode=False)
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(names):,} images of test2015 are not below {images}:"
            f" {next(iter(missing.values()))}; get test2015.zip of COCO, or name their directory"
            " with --images",
            "missing-image",
        )
    distinct = {run.resolve(): run for run in runs}
    return [_candidate(run, questions, images, task, restart_changed) for run in distinct.values()]


def _need_plain_texts(questions: ServerQuestions, checkpoint: Path) -> None:
    """A question must not hold what the model of a checkpoint reads as something else than text."""
    tokens = read_special_tokens(checkpoint)
    for asked in questions.asked:
        token = next((token for token in tokens.of(asked.text) if token in tokens.structure), IMAGE)
        if token in asked.text:
            raise DataError(
                f"question {asked.id} of test-dev: expected text without special tokens of"
                f" {checkpoint} and without {IMAGE}; found {token!r} in {asked.text!r}",
                "special-token",
            )


def _candidate(
    run: Path, questions: ServerQuestions, images: Path, task: str, restart_changed: bool
) -> Candidate:
    paths = RunPaths(run.resolve())
    path = _recipe_above(paths.root)
    if path is None or not (paths.checkpoint / "config.json").exists():
        raise RunError(
            f"{run}: expected the directory of a final model, such as runs/academic/final/cotbal;"
            " found none",
            "missing-file",
        )
    recipe = load_recipe(path)
    if task not in recipe.file.tasks:
        raise CotbalError(
            f"--task: expected one of {', '.join(recipe.file.tasks)} as in {path}; found {task!r}",
            "unknown-task",
        )
    _need_plain_texts(questions, paths.checkpoint)
    instruction = recipe.mixture[task].instruction
    identity = {
        "code": CODE_VERSION,
        "checkpoint": need_whole_checkpoint(paths),
        "questions": _digest(questions),
        "instruction": instruction,
        "max_new_tokens": recipe.file.generation.max_new_tokens,
    }
    answers = submission_of(paths.root)
    changed = differences(_made_from(answers, identity), identity)
    if changed and not restart_changed:
        raise RunError(
            f"{answers.root} was made with other settings ({'; '.join(changed)});"
            " --restart-changed archives it",
            "changed-settings",
        )
    job = {
        "recipe": str(recipe.path),
        "checkpoint": str(paths.checkpoint),
        "images": str(images.resolve()),
        "questions": str(answers.questions),
        "task": task,
        "instruction": instruction,
        "identity": identity,
        "checkpoint_stat": checkpoint_stat(str(paths.checkpoint)),
        "piece": PIECE,
    }
    name = paths.root.relative_to(path.parent.parent).as_posix()
    return Candidate(name, answers, job, recipe.resources, bool(changed))


def _digest(questions: ServerQuestions) -> str:
    texts = json.dumps([vars(asked) for asked in questions.asked])
    return hashlib.sha256(texts.encode()).hexdigest()


def _made_from(answers: SubmissionPaths, identity: Mapping[str, Any]) -> Mapping[str, Any]:
    """The identity of the answers on disk; without a job file they are those of nobody knows what.

    Args:
        identity: where there are no answers.
    """
    if answers.job.exists():
        with as_written(answers.job):
            return dict(read_json(answers.job)["identity"])
    return {} if answers.pieces else identity


def _recipe_above(run: Path) -> Path | None:
    """The recipe of a run: two directories above it, or three for runs below `seed-N`."""
    for directory in run.parents[1:3]:
        path = directory / "recipe.yaml"
        if path.exists():
            return path
    return None


def run_submission(
    candidates: Sequence[Candidate], questions: ServerQuestions, options: Options
) -> list[Written]:
    """Have every model answer what it has not answered yet, then write the files for the server.

    Raises:
        RunsFailed: jobs failed; the answers that were given are kept.
        RunError: another command, or a job of another queue, works on the same answers.
    """
    run = plugins.load("cotbal.jobs.executors", options.executor).run
    with ExitStack() as locks:
        finished: list[Job] = []
        todo: list[Job] = []
        for candidate in candidates:
            locks.enter_context(_locked(candidate, options.executor))
            whole = len(candidate.answers()) >= len(questions.asked)
            (finished if whole else todo).append(_job(candidate, len(questions.asked)))
        # The executor rejects here what it cannot run, before anything is written.
        outcomes = run(todo, options.resources) if todo else None
        for candidate in candidates:
            _write_inputs(candidate, questions)
        for job in finished:
            forget_handle(job.directory)  # it ended while no driver ran
        if outcomes is not None:
            follow(outcomes, todo, finished, options, "models")
        return [_write_answers(candidate, questions) for candidate in candidates]


@contextmanager
def _locked(candidate: Candidate, executor: str) -> Iterator[None]:
    """Lock the answers of a model and record this command there; archive changed answers before."""
    paths = candidate.paths
    if candidate.changed:
        with locked(paths.driver_lock):
            release([paths.root])
            archive_run(paths.root)
    with locked(paths.driver_lock):
        need_none_elsewhere([paths.root], executor)
        record_driver(paths.driver, executor)
        try:
            yield
        finally:
            paths.driver.unlink(missing_ok=True)


def _write_inputs(candidate: Candidate, questions: ServerQuestions) -> None:
    """Write the files that a job reads; remove the failure of an earlier one."""
    paths = candidate.paths
    write_sealed_rows(paths.questions, map(vars, questions.asked))
    write_sealed(paths.job, candidate.job)
    paths.failure.unlink(missing_ok=True)


def _job(candidate: Candidate, cost: int) -> Job:
    worker = "cotbal.benchmarks.submission.worker"
    command = (sys.executable, "-m", worker, str(candidate.paths.job))
    return Job(candidate.name, candidate.paths.root, command, cost, candidate.needs, (worker,))


def _write_answers(candidate: Candidate, questions: ServerQuestions) -> Written:
    rows = candidate.answers()
    if [row["id"] for row in rows] != [asked.id for asked in questions.asked]:
        raise RunError(
            f"{candidate.paths.root}: expected an answer to every question of test-dev; found"
            " others",
            "missing-results",
        )
    path = candidate.paths.file
    answers = {row["id"]: row["answer"] for row in rows}
    return Written(candidate.name, path, write_submission(path, questions, answers))
