"""Weights that were fixed before the training: VITW, Eq. 2. With the weights of Eq. 11 this is
CoTBal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cotbal.errors import CotbalError
from cotbal.weightings import Static, refuse_options

LABEL = "CoTBal"


def build(
    tasks: Sequence[str], weights: Mapping[str, float] | None, *, seed: int = 0, **options: Any
) -> Static:
    """Fixed weights, looked up by name and never by position.

    Raises:
        CotbalError: a task has no weight, a weight belongs to no task, a weight is not a positive
            number, or options were given.
    """
    refuse_options("cotbal", options)
    if weights is None:
        raise CotbalError(
            "weighting cotbal needs weights: run `cotbal balance`, or give a file with --weights"
        )
    missing = [task for task in tasks if task not in weights]
    unknown = [name for name in weights if name not in tasks]
    if missing or unknown:
        faults = [f"no weight for {', '.join(missing)}"] if missing else []
        faults += [f"no task {', '.join(unknown)}"] if unknown else []
        raise CotbalError(
            f"weights: expected one for each of {', '.join(tasks)}; found {' and '.join(faults)}"
        )
    wrong = [f"{task}: {weights[task]}" for task in tasks if not 0 < weights[task] < float("inf")]
    if wrong:
        raise CotbalError(f"weights: expected positive numbers; found {', '.join(wrong)}")
    return Static(tuple(float(weights[task]) for task in tasks))
