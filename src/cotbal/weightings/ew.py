"""EW: every valid token counts the same, Eq. 1."""

from __future__ import annotations

from collections.abc import Sequence

from cotbal.weightings import Static

LABEL = "EW"


def build(tasks: Sequence[str]) -> Static:
    """EW for these tasks."""
    return Static((1.0,) * len(tasks))
