"""TLA: the mean over the valid tokens of each task, then the mean over the tasks present in the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from cotbal.errors import CotbalError


@dataclass(frozen=True)
class TaskLevel:
    """Every task present in a step has the same share in its loss, however many tokens it brings."""

    tasks: int
    average: Literal["task"] = "task"

    def weights(self, step: int) -> Float[np.ndarray, " task"]:
        """Ones; the averaging does the balancing."""
        return np.ones(self.tasks)


def build(tasks: Sequence[str], weights: Mapping[str, float] | None) -> TaskLevel:
    """TLA for these tasks.

    Raises:
        CotbalError: weights were given, which TLA would silently ignore.
    """
    if weights is not None:
        raise CotbalError("weighting task_level takes no weights; use the weighting `fixed`, or leave the weights out")
    return TaskLevel(len(tasks))
