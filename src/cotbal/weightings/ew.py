"""EW: every valid token counts the same, Eq. 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cotbal.weightings import Static, refuse_options, refuse_weights

LABEL = "EW"


def build(
    tasks: Sequence[str], weights: Mapping[str, float] | None, *, seed: int = 0, **options: Any
) -> Static:
    """EW for these tasks.

    Raises:
        CotbalError: weights or options were given, which EW would silently ignore.
    """
    refuse_weights("ew", weights)
    refuse_options("ew", options)
    return Static((1.0,) * len(tasks))
