"""Whether enough units are identified for weights other than 1."""

from __future__ import annotations

import numpy as np

from cotbal.balance.measures import Measures


def identified_shares(measures: Measures) -> dict[str, float]:
    """Share of the units whose contributions as receivers, and whose difficulty, are numbers."""
    receivers = ~np.isnan(measures.contribution).all(axis=0)
    return {
        "receivers": float(receivers.mean()),
        "difficulties": float((~np.isnan(measures.difficulty)).mean()),
    }


def is_measurable(measures: Measures, least: float) -> bool:
    """Whether both shares reach `least`; always for a single unit, whose weight is 1."""
    if len(measures.difficulty) == 1:
        return True
    return min(identified_shares(measures).values()) >= least
