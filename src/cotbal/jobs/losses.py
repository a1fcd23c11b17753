"""The losses of a training on disk, `training.jsonl`, as the training wrote them."""

from __future__ import annotations

import hashlib
from typing import Any

from cotbal.data.files import as_written, read_json, read_jsonl
from cotbal.errors import RunError
from cotbal.training.run_paths import BY_TASK, RunPaths

NUMBERS = ("step", "epoch", "seconds")
LARGEST = 1e100  # squares of differences are finite


def digest_of_losses(paths: RunPaths) -> str | None:
    """SHA-256 of the file; None without a file."""
    path = paths.training
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def recorded_digest(paths: RunPaths) -> str | None:
    """SHA-256 of the file at the end of the training; None before the end, and where nothing was
    trained.

    Raises:
        RunError: the file that holds it is damaged.
    """
    for path in (paths.outcome, paths.trained):
        if path.exists():
            with as_written(path):
                digest: str | None = read_json(path).get("losses")
            return digest
    return None


def read_losses(paths: RunPaths) -> list[dict[str, Any]]:
    """One mapping per line: `step`, `epoch`, `seconds`, and losses, tokens and weights by task.

    The file grows in place while a run trains, and has no digest until the training has ended: then
    only the form of its lines is checked.

    Raises:
        RunError: the file is not the one that the training wrote, is missing, or holds something
            else than losses.
    """
    digest = recorded_digest(paths)
    if digest is not None and digest_of_losses(paths) != digest:
        problem = "another" if paths.training.exists() else "none"
        raise RunError(
            f"{paths.training}: expected the losses that the training wrote; found {problem}. Only"
            " a new training writes them again: remove the directory of the run, then rerun the"
            " command of the job",
            "damaged-file",
        )
    with as_written(paths.training):
        return [_line(row) for row in read_jsonl(paths.training)]


def _line(row: Any) -> dict[str, Any]:
    line = dict(row)
    values = [line[key] for key in NUMBERS if key in line]
    for key in BY_TASK:
        values += line.get(key, {}).values()
    if not all(isinstance(value, int | float) and abs(value) <= LARGEST for value in values):
        raise ValueError(f"expected numbers up to {LARGEST:g}")
    if "epoch" not in line and any(key in line for key in BY_TASK):
        raise ValueError("expected the epoch of a step")
    tokens = line.get("task_tokens", {})
    if not all(tokens[task] > 0 for task in line.get("task_losses", {})):
        raise ValueError("expected a loss over tokens")
    return line
