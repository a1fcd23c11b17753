"""`cotbal status`: where every run of a directory stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cotbal.errors import CotbalError, RunError
from cotbal.executors import recorded_place
from cotbal.pipeline.places import Sent, sent
from cotbal.rundir import RunDir, RunPaths, is_locked, read_json

Word = Literal["done", "running", "queued", "unknown", "failed", "interrupted", "missing"]


@dataclass(frozen=True)
class State:
    """Where one run of a directory stands."""

    run: str
    kind: str
    state: Word
    detail: str


def status(root: RunDir) -> list[State]:
    """Every planned run of a directory: done, running, queued, failed, interrupted or missing.

    Where a queue does not answer, its runs are `unknown`.

    Raises:
        RunError: the directory holds no plan.
    """
    if not root.plan.exists():
        raise RunError(
            f"{root.root}: expected a run directory with a plan.json, found none; start with `cotbal run RECIPE`"
        )
    entries = [(entry, RunPaths(root.root / entry["directory"])) for entry in read_json(root.plan)["runs"]]
    left = [paths.root for _, paths in entries if not paths.done]
    try:
        jobs = {job.directory: job for job in sent(left)}
    except CotbalError as error:
        silent = str(error).splitlines()[0]
        return [_state(entry, paths, {}, silent) for entry, paths in entries]
    return [_state(entry, paths, jobs, None) for entry, paths in entries]


def _state(entry: dict[str, str], paths: RunPaths, jobs: Mapping[Path, Sent], silent: str | None) -> State:
    state, detail = _standing(paths, jobs.get(paths.root), silent)
    return State(entry["label"], entry["kind"], state, detail)


def _standing(paths: RunPaths, job: Sent | None, silent: str | None) -> tuple[Word, str]:
    if paths.done:
        return "done", f"{read_json(paths.outcome)['seconds']['total']:.0f} s"
    if job is not None and job.standing is not None:
        where = f"{job.place.executor} {job.place.id}, {job.standing.where}"
        running = job.standing.state == "running"
        return ("running", f"{_progress(paths)}; {where}") if running else ("queued", where)
    if is_locked(paths.lock):
        return "running", _progress(paths)
    if silent is not None and (place := recorded_place(paths.root)) is not None:
        return "unknown", f"{place.executor} {place.id}; {silent}"
    return _at_rest(paths)


def _at_rest(paths: RunPaths) -> tuple[Word, str]:
    if paths.failure.exists():
        return "failed", read_json(paths.failure)["message"].strip().splitlines()[-1]
    if paths.progress.exists():
        fraction = read_json(paths.progress)["fraction"]
        # `complete`: see cotbal.hosts.checkpoints, which needs torch.
        kept = paths.trained.exists() or any(paths.partial.glob("checkpoint-*/complete"))
        how = "the same command goes on" if kept else "no checkpoint yet: the same command begins this run anew"
        return "interrupted", f"at {fraction:.0%}; {how}"
    return "missing", ""


def _progress(paths: RunPaths) -> str:
    progress = read_json(paths.progress) if paths.progress.exists() else {"phase": "starting", "fraction": 0.0}
    return f"{progress['phase']}, {progress['fraction']:.0%}"
