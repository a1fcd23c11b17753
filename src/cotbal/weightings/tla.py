"""TLA: the mean over the valid tokens of each task, then the mean over the tasks present in the
step.

Every task present in a step has the same share in its loss, however many tokens it brings. The
published code divides by the number of all tasks, absent ones included, so that its loss shrinks
with the number of tasks in a batch; ours divides by those that are there.
"""

from __future__ import annotations

from collections.abc import Sequence

from cotbal.weightings import Static

LABEL = "TLA"


def build(tasks: Sequence[str]) -> Static:
    """TLA for these tasks: equal weights, the averaging does the balancing."""
    return Static((1.0,) * len(tasks), average="task")
