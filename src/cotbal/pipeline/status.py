"""`cotbal status`: where every run of a directory stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cotbal.errors import RunError
from cotbal.rundir import RunDir, RunPaths, locked, read_json


@dataclass(frozen=True)
class State:
    """Where one run of a directory stands."""

    run: str
    kind: str
    state: Literal["done", "running", "failed", "interrupted", "missing"]
    detail: str


def status(root: RunDir) -> list[State]:
    """Every planned run of a directory: done, running, failed, interrupted or missing.

    Raises:
        RunError: the directory holds no plan.
    """
    if not root.plan.exists():
        raise RunError(
            f"{root.root}: expected a run directory with a plan.json, found none; start with `cotbal run RECIPE`"
        )
    return [_state(entry, RunPaths(root.root / entry["directory"])) for entry in read_json(root.plan)["runs"]]


def _state(entry: dict[str, str], paths: RunPaths) -> State:
    if paths.done:
        seconds = read_json(paths.outcome)["seconds"]["total"]
        return State(entry["label"], entry["kind"], "done", f"{seconds:.0f} s")
    if paths.lock.exists() and _held(paths.lock):
        progress = read_json(paths.progress) if paths.progress.exists() else {"phase": "starting", "fraction": 0.0}
        return State(entry["label"], entry["kind"], "running", f"{progress['phase']}, {progress['fraction']:.0%}")
    if paths.failure.exists():
        last = read_json(paths.failure)["message"].strip().splitlines()[-1]
        return State(entry["label"], entry["kind"], "failed", last)
    if paths.progress.exists():
        fraction = read_json(paths.progress)["fraction"]
        return State(entry["label"], entry["kind"], "interrupted", f"at {fraction:.0%}; the same command goes on")
    return State(entry["label"], entry["kind"], "missing", "")


def _held(lock: Path) -> bool:
    try:
        with locked(lock):
            return False
    except RunError:
        return True
