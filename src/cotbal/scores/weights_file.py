"""Reading `weights.json` of `cotbal balance`: `weights` of units, and `tasks`, weights of tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cotbal.errors import CotbalError
from cotbal.scores.sealed import unsealed

LARGEST = 1e6  # weight; 1 is the mean


def read_task_weights(path: str | Path) -> dict[str, float]:
    """Task -> weight, for a training with `cotbal.weightings.cotbal`.

    A task of a group has the weight of its group, and a task that is not balanced has the weight 1.

    Args:
        path: a weights.json, or any JSON mapping of tasks to numbers.

    Raises:
        CotbalError: the file is not that, holds weights of units alone, or has two different
            weights of one name.
    """
    content = _content(Path(path))
    if "weights" in content and "tasks" not in content:
        raise CotbalError(
            f'{path}: expected "tasks": {{task: number}}; found weights of units alone, which do'
            " not include tasks of groups; use the weights.json that `cotbal balance` or"
            " `cotbal weights --out` writes",
            "missing-weights",
        )
    weights = content.get("tasks", content)
    wrong = _wrong(weights, positive=True)
    if wrong:
        raise CotbalError(
            f'{path}: expected {{"tasks": {{task: positive number up to {LARGEST:,.0f}}}}}; found'
            f" {wrong}",
            "invalid-weights",
        )
    return {task: float(weight) for task, weight in weights.items()}


def read_weights(path: Path) -> dict[str, float]:
    """Unit -> weight, from a weights.json or from any JSON mapping of names to numbers.

    Raises:
        CotbalError: the file is not that.
    """
    content = _content(path)
    weights: dict[str, float] = content.get("weights", content)
    wrong = _wrong(weights)
    if wrong:
        raise CotbalError(
            f'{path}: expected {{"weights": {{unit: number up to {LARGEST:,.0f}}}}}; found {wrong}',
            "invalid-weights",
        )
    return weights


def _content(path: Path) -> dict[str, Any]:
    try:
        content = unsealed(json.loads(path.read_text(encoding="utf-8-sig")), path)
    except (OSError, ValueError, RecursionError) as error:
        code = "missing-file" if isinstance(error, OSError) else "invalid-weights"
        raise CotbalError(f"{path}: expected weights as JSON; {error}", code) from None
    if not isinstance(content, dict):
        raise CotbalError(
            f"{path}: expected weights as a JSON mapping; found {content!r:.60}", "invalid-weights"
        )
    _require_one_weight(content, path)
    return content


def _require_one_weight(content: dict[str, Any], path: Path) -> None:
    """Whoever edits `weights` by hand must edit `tasks` too: trainings read one, exports the
    other.
    """
    of_units, of_tasks = content.get("weights"), content.get("tasks")
    if not isinstance(of_units, dict) or not isinstance(of_tasks, dict):
        return
    for name in of_units.keys() & of_tasks.keys():
        if of_units[name] != of_tasks[name]:
            raise CotbalError(
                f'{path}: expected the same weight of {name!r} in "weights" and "tasks"; found'
                f" {of_units[name]!r:.60} and {of_tasks[name]!r:.60}",
                "invalid-weights",
            )


def _wrong(content: Any, positive: bool = False) -> str:
    """What makes this no mapping of names to numbers that are not too large; empty if it is one."""
    if not isinstance(content, dict):
        return f"{content!r:.60}"
    if not content:
        return "no weights"
    for name, value in content.items():
        is_number = type(value) in (int, float) and value <= LARGEST
        if not is_number or (positive and value <= 0):
            return f"{name!r}: {value!r:.60}"
    return ""
