"""EW: every valid token counts the same, Eq. 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from cotbal.errors import CotbalError


@dataclass(frozen=True)
class Equal:
    """Weight 1 for every task at every step."""

    tasks: int
    average: Literal["token"] = "token"

    def weights(self, step: int) -> Float[np.ndarray, " task"]:
        """Ones."""
        return np.ones(self.tasks)


def build(tasks: Sequence[str], weights: Mapping[str, float] | None) -> Equal:
    """EW for these tasks.

    Raises:
        CotbalError: weights were given, which EW would silently ignore.
    """
    if weights is not None:
        raise CotbalError("weighting equal takes no weights; use the weighting `fixed`, or leave the weights out")
    return Equal(len(tasks))
