"""Steer: weights chosen for a goal from the measured effects of weights on scores, fixed before
training, on every valid token (Eq. 2). `steer:ocr` raises `ocr`, `steer:mean` the mean over tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cotbal.weightings import Static, fixed_weights

LABEL = "Steer"
STEER = "steer"  # the method; its variant is the goal


def method_for(goal: str) -> str:
    """The method that trains with the weights of a goal, as `Choice` names it."""
    return f"{STEER}:{goal.replace(',', '+')}"


def build(
    tasks: Sequence[str],
    weights: Mapping[str, float],
    *,
    variant: str = "mean",  # noqa: ARG001 - names the weights
) -> Static:
    """These weights, see `fixed_weights`; `variant` is the goal that they were chosen for."""
    return fixed_weights(tasks, weights)
