"""Reading `weights.json`, which `cotbal balance` writes: `weights` of units and `tasks`, weights of
tasks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cotbal.errors import CotbalError


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
            " not say what a task of a group gets; take the weights.json that `cotbal balance` or"
            " `cotbal weights --out` writes"
        )
    found = content.get("tasks", content)
    if not _are_numbers(found) or not all(0 < weight < float("inf") for weight in found.values()):
        raise CotbalError(
            f'{path}: expected {{"tasks": {{task: positive number}}}}; found something else'
        )
    return {task: float(weight) for task, weight in found.items()}


def read_weights(path: Path) -> dict[str, float]:
    """Unit -> weight, from a weights.json or from any JSON mapping of names to numbers.

    Raises:
        CotbalError: the file is not that.
    """
    content = _content(path)
    found = content.get("weights", content)
    if not _are_numbers(found):
        raise CotbalError(f'{path}: expected {{"weights": {{unit: number}}}}; found something else')
    weights: dict[str, float] = found
    return weights


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CotbalError(f"{path}: expected weights as JSON; {error}") from None
    if not isinstance(content, dict):
        raise CotbalError(f"{path}: expected weights as a JSON mapping; found {content!r:.60}")
    return content


def _are_numbers(found: Any) -> bool:
    """Whether it is a mapping of names to numbers."""
    return isinstance(found, dict) and all(type(value) in (int, float) for value in found.values())
