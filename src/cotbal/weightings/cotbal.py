"""CoTBal: the weights of Eq. 11, fixed before training, on every valid token (VITW, Eq. 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cotbal.weightings import Static, fixed_weights

LABEL = "CoTBal"


def build(tasks: Sequence[str], weights: Mapping[str, float]) -> Static:
    """VITW with these weights, see `fixed_weights`."""
    return fixed_weights(tasks, weights)
