"""Scores that are means over categories: every category has the same say, however many samples it
has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cotbal.errors import CotbalError

Records = Sequence[Mapping[str, Any]]


def categories(records: Records, n: int) -> list[str]:
    """The `category` of each of n samples; one for all where the records state none."""
    return [str(detail(record, "category", "")) for record in records] if records else [""] * n


def detail(record: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """What a record says beside conversation and images."""
    return record.get("details", {}).get(name, otherwise)


def leveled(weights: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Weights that sum to 1 in every category that has any, and keep their proportions inside it;
    shape [n].
    """
    number = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)[1]
    total = np.bincount(number, weights)[number] if len(weights) else np.zeros(0)
    found: np.ndarray = np.divide(weights, total, out=np.zeros(len(weights)), where=total > 0)
    return found


def leveled_among(
    counted: Sequence[bool], names: Sequence[str], wanted: str, other: str
) -> np.ndarray:
    """The same weight for every category that counts and for every sample inside it, 0 for all
    others; shape [n].

    Raises:
        CotbalError: none counts; `wanted` says what was expected, `other` is the metric for what is
            there.
    """
    if names and not any(counted):
        raise CotbalError(
            f"{wanted}; found only {', '.join(sorted(set(names)))}, which {other} scores"
        )
    return leveled(np.array(counted, np.float64), names)
