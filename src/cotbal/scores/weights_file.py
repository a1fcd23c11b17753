"""Reading `weights.json` of `cotbal balance`: `weights` of units, and `tasks`, weights of tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cotbal.errors import CotbalError
from cotbal.scores.sealed import unsealed


def read_task_weights(path: str | Path) -> dict[str, float]:
    """Task -> weight, for a training with `cotbal.weightings.cotbal`.

    A task of a group has the weight of its group, and a task that is not balanced has the weight 1.

    Args:
        path: a weights.json, or any JSON mapping of tasks to numbers.

    Raises:
        CotbalError: the file is not that, or holds weights of units alone.
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
    if not _are_numbers(weights) or not all(0 < value < float("inf") for value in weights.values()):
        raise CotbalError(
            f'{path}: expected {{"tasks": {{task: positive number}}}}; found something else',
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
    if not _are_numbers(weights):
        raise CotbalError(
            f'{path}: expected {{"weights": {{unit: number}}}}; found something else',
            "invalid-weights",
        )
    return weights


def _content(path: Path) -> dict[str, Any]:
    try:
        content = unsealed(json.loads(path.read_text(encoding="utf-8")), path)
    except (OSError, ValueError) as error:
        code = "missing-file" if isinstance(error, OSError) else "invalid-weights"
        raise CotbalError(f"{path}: expected weights as JSON; {error}", code) from None
    if not isinstance(content, dict):
        raise CotbalError(
            f"{path}: expected weights as a JSON mapping; found {content!r:.60}", "invalid-weights"
        )
    return content


def _are_numbers(content: Any) -> bool:
    """Whether this is a mapping of names to numbers."""
    return isinstance(content, dict) and all(type(v) in (int, float) for v in content.values())
