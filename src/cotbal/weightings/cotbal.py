"""CoTBal: the weights of Eq. 11, fixed before the training and applied to every valid token (VITW,
Eq. 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cotbal.weightings import Static, fixed_weights

LABEL = "CoTBal"


def build(tasks: Sequence[str], weights: Mapping[str, float]) -> Static:
    """VITW with these weights.

    Raises:
        CotbalError: a task has no weight, a weight belongs to no task, or a weight is not a
            positive number.
    """
    return fixed_weights(tasks, weights)
