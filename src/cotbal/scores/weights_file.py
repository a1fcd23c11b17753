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
    if not _are_weights(weights) or not all(value > 0 for value in weights.values()):
        raise CotbalError(
            f'{path}: expected {{"tasks": {{task: positive number up to {LARGEST:,.0f}}}}}; found'
            " something else",
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
    if not _are_weights(weights):
        raise CotbalError(
            f'{path}: expected {{"weights": {{unit: number up to {LARGEST:,.0f}}}}}; found'
            " something else",
            "invalid-weights",
        )
    return weights


def _content(path: Path) -> dict[str, Any]:
    try:
        content = unsealed(json.loads(path.read_text(encoding="utf-8")), path)
    except (OSError, ValueError, RecursionError) as error:
        code = "missing-file" if isinstance(error, OSError) else "invalid-weights"
        raise CotbalError(f"{path}: expected weights as JSON; {error}", code) from None
    if not isinstance(content, dict):
        raise CotbalError(
            f"{path}: expected weights as a JSON mapping; found {content!r:.60}", "invalid-weights"
        )
    return content


def _are_weights(content: Any) -> bool:
    """Whether this is a mapping of names to numbers that are not too large."""
    return isinstance(content, dict) and all(
        type(value) in (int, float) and value <= LARGEST for value in content.values()
    )
