"""Weightings: the method that says what the weights are at this optimizer step. One file a method.

A module offers `build(tasks, weights) -> Weighting`, where `weights` maps tasks to fixed weights and is None for a
method that makes its own.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float


class Weighting(Protocol):
    """What the trainer asks of a method.

    Attributes:
        average: `token` for a mean over all valid tokens, `task` for a mean over tasks of their token means.
    """

    average: Literal["token", "task"]

    def weights(self, step: int) -> Float[np.ndarray, " task"]:
        """Weight of every task at optimizer step `step`, positive, in the order of the tasks given to `build`."""
        ...
