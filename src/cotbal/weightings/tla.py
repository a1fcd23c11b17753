"""TLA: the mean over the valid tokens of each task, then the mean over the tasks present in the
step.

Every task present in a step has the same share in its loss, however many tokens it brings. The
published code divides by the number of all tasks, absent ones included, so that its loss shrinks
with the number of tasks in a batch; ours divides by those that are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cotbal.weightings import Static, refuse_options, refuse_weights

LABEL = "TLA"


def build(
    tasks: Sequence[str], weights: Mapping[str, float] | None, *, seed: int = 0, **options: Any
) -> Static:
    """TLA for these tasks: equal weights, the averaging does the balancing.

    Raises:
        CotbalError: weights or options were given, which TLA would silently ignore.
    """
    refuse_weights("tla", weights)
    refuse_options("tla", options)
    return Static((1.0,) * len(tasks), average="task")
