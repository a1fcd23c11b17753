"""Weights that were fixed before the training: VITW, Eq. 2. With the weights of Eq. 11 this is CoTBal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from cotbal.errors import CotbalError


@dataclass(frozen=True)
class Fixed:
    """One positive number a task, the same at every step."""

    values: tuple[float, ...]
    average: Literal["token"] = "token"

    def weights(self, step: int) -> Float[np.ndarray, " task"]:
        """The weights, in the order of the tasks."""
        return np.array(self.values)


def build(tasks: Sequence[str], weights: Mapping[str, float] | None) -> Fixed:
    """Fixed weights, looked up by name and never by position.

    Raises:
        CotbalError: a task has no weight, a weight belongs to no task, or a weight is not a positive number.
    """
    if weights is None:
        raise CotbalError("weighting fixed needs weights: run `cotbal balance`, or give a file with --weights")
    missing = [task for task in tasks if task not in weights]
    unknown = [name for name in weights if name not in tasks]
    if missing or unknown:
        faults = [f"no weight for {', '.join(missing)}"] * bool(missing) + [f"no task {', '.join(unknown)}"] * bool(
            unknown
        )
        raise CotbalError(f"weights: expected one for each of {', '.join(tasks)}; found {' and '.join(faults)}")
    wrong = [f"{task}: {weights[task]}" for task in tasks if not 0 < weights[task] < float("inf")]
    if wrong:
        raise CotbalError(f"weights: expected positive numbers; found {', '.join(wrong)}")
    return Fixed(tuple(float(weights[task]) for task in tasks))
