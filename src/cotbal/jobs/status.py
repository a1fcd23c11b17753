"""`cotbal status`: the state of every run of a directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cotbal.data.files import is_locked, read_json
from cotbal.errors import CotbalError, RunError
from cotbal.jobs.executors import recorded_handle
from cotbal.jobs.queue import QueuedJob, queued
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.submission_paths import SubmissionPaths, submissions
from cotbal.training.run_paths import RunPaths

Word = Literal["done", "running", "queued", "unknown", "failed", "interrupted", "missing"]


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
    if not root.plan.exists():
        raise RunError(
            f"{root.root}: expected a run directory with a plan.json, found none; start with"
            " `cotbal run RECIPE`"
        )
    entries: list[tuple[str, str, RunPaths]] = []
    for entry in read_json(root.plan)["runs"]:
        entries.append((entry["label"], entry["kind"], RunPaths(root.root / entry["directory"])))
    for paths in submissions(root):
        entries.append((str(paths.root.relative_to(root.root)), "submission", paths))
    open_runs = [paths.root for _, _, paths in entries if not paths.done]
    jobs: dict[Path, QueuedJob] = {}
    silent = None
    try:
        jobs = {job.directory: job for job in queued(open_runs)}
    except CotbalError as error:
        silent = str(error).splitlines()[0]
    return [
        State(run, kind, *_state(paths, jobs.get(paths.root), silent))
        for run, kind, paths in entries
    ]


def _state(paths: RunPaths, job: QueuedJob | None, silent: str | None) -> tuple[Word, str]:
    if paths.done:
        return "done", _result(paths)
    if job is not None and job.status is not None:
        where = f"{job.handle.executor} {job.handle.id}, {job.status.where}"
        if job.status.state == "running":
            return "running", f"{_progress(paths)}; {where}"
        return "queued", where
    if is_locked(paths.lock):
        return "running", _progress(paths)
    if silent is not None and (handle := recorded_handle(paths.root)) is not None:
        return "unknown", f"{handle.executor} {handle.id}; {silent}"
    return _at_rest(paths)


def _result(paths: RunPaths) -> str:
    if isinstance(paths, SubmissionPaths):
        return paths.file.name
    return f"{read_json(paths.outcome)['seconds']['total']:.0f} s"


def _at_rest(paths: RunPaths) -> tuple[Word, str]:
    if paths.failure.exists():
        return "failed", read_json(paths.failure)["message"].strip().splitlines()[-1]
    if paths.progress.exists():
        fraction = read_json(paths.progress)["fraction"]
        how = (
            "rerun the command to resume"
            if _kept(paths)
            else "no checkpoint yet: rerunning the command restarts this run"
        )
        return "interrupted", f"at {fraction:.0%}; {how}"
    return "missing", ""


def _kept(paths: RunPaths) -> bool:
    """Whether something of an interrupted run need not be done again; answers are kept piece by
    piece.
    """
    # `complete`: see cotbal.training.trainers.checkpoints, which needs torch.
    whole = any(paths.partial.glob("checkpoint-*/complete"))
    return isinstance(paths, SubmissionPaths) or paths.trained.exists() or whole


def _progress(paths: RunPaths) -> str:
    progress = (
        read_json(paths.progress)
        if paths.progress.exists()
        else {"phase": "starting", "fraction": 0.0}
    )
    return f"{progress['phase']}, {progress['fraction']:.0%}"
