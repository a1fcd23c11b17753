"""`cotbal status`: the state of every run of a directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cotbal.data.files import as_written, is_locked, read_json
from cotbal.errors import CotbalError, RunError
from cotbal.jobs.executors import recorded_handle
from cotbal.jobs.queue import QueuedJob, queued
from cotbal.jobs.rundir import RunDir, SubmissionPaths, submissions
from cotbal.training.partial_checkpoints import COMPLETE
from cotbal.training.run_paths import RunPaths

Word = Literal["done", "running", "queued", "unknown", "failed", "interrupted", "missing"]
STARTING = {"phase": "starting", "fraction": 0.0}


@dataclass(frozen=True)
class State:
    """The state of one run of a directory."""

    run: str
    kind: str
    state: Word
    detail: str


def status(root: RunDir) -> list[State]:
    """Every planned run of a directory: done, running, queued, failed, interrupted or missing.

    After them the models that answer for a server (`cotbal submission`), named by their
    directories. Where a queue does not answer, its runs are `unknown`.

    Raises:
        RunError: the directory holds no plan.
    """
    runs: list[tuple[str, str, RunPaths]] = []
    for entry in root.planned():
        paths = RunPaths(root.root / entry["directory"])
        runs.append((entry["label"], entry["kind"], paths))
    for submission in submissions(root):
        name = str(submission.root.relative_to(root.root))
        runs.append((name, "submission", submission))
    problem = ""
    try:
        in_queue = queued(paths.root for _, _, paths in runs if not paths.done)
    except CotbalError as error:
        in_queue, problem = [], str(error).splitlines()[0]
    jobs = {job.directory: job for job in in_queue}
    return [
        State(name, kind, *_state(paths, jobs.get(paths.root), problem))
        for name, kind, paths in runs
    ]


def _state(paths: RunPaths, job: QueuedJob | None, problem: str) -> tuple[Word, str]:
    """The state of one run; `problem` is why its queue does not answer, if it does not."""
    if paths.done:
        return "done", _result(paths)
    if job is not None and job.status is not None:
        where = f"{job.handle.executor} {job.handle.id}, {job.status.where}"
        if job.status.state == "queued":
            return "queued", where
        return "running", f"{_progress(paths)}; {where}"
    if is_locked(paths.lock):
        return "running", _progress(paths)
    if problem and (handle := recorded_handle(paths.root)) is not None:
        return "unknown", f"{handle.executor} {handle.id}; {problem}"
    return _at_rest(paths)


def _result(paths: RunPaths) -> str:
    if isinstance(paths, SubmissionPaths):
        return paths.file.name
    with as_written(paths.outcome):
        return f"{read_json(paths.outcome)['seconds']['total']:.0f} s"


def _at_rest(paths: RunPaths) -> tuple[Word, str]:
    if paths.failure.exists():
        with as_written(paths.failure):
            return "failed", read_json(paths.failure)["message"].strip().splitlines()[-1]
    progress = _read_progress(paths)
    if progress is None:
        return "missing", ""
    how = "no checkpoint yet: rerunning the command restarts this run"
    if _resumes(paths):
        how = "rerun the command to resume"
    return "interrupted", f"at {progress['fraction']:.0%}; {how}"


def _resumes(paths: RunPaths) -> bool:
    """Whether a part of an interrupted run is kept; answers are kept piece by piece."""
    saved = any(paths.partial.glob(f"checkpoint-*/{COMPLETE}"))
    return saved or isinstance(paths, SubmissionPaths) or paths.trained.exists()


def _progress(paths: RunPaths) -> str:
    progress = _read_progress(paths) or STARTING
    return f"{progress['phase']}, {progress['fraction']:.0%}"


def _read_progress(paths: RunPaths) -> dict[str, Any] | None:
    """What a worker reported last; None if nothing. A loss of power may have cut off the file."""
    if not paths.progress.exists():
        return None
    try:
        with as_written(paths.progress):
            progress = read_json(paths.progress)
            return {"phase": str(progress["phase"]), "fraction": float(progress["fraction"])}
    except RunError:
        return STARTING
