"""Scores that are means over categories of any number of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cotbal.errors import CotbalError

Records = Sequence[Mapping[str, Any]]


def categories(records: Records, n: int) -> list[str]:
    """The `category` of each of n samples; empty where the records have none."""
    return [str(detail(record, "category", "")) for record in records] if records else [""] * n


def detail(record: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """A field of a record beside conversation and images."""
    return record.get("details", {}).get(name, otherwise)


def leveled(weights: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Weights scaled so that they sum to 1 in every category that has any; shape [n]."""
    number = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)[1]
    total = np.bincount(number, weights)[number] if len(weights) else np.zeros(0)
    return np.asarray(np.divide(weights, total, out=np.zeros(len(weights)), where=total > 0))


def leveled_among(
    counted: Sequence[bool], names: Sequence[str], wanted: str, other: str
) -> np.ndarray:
    """The same weight for every category that counts and every sample inside it; shape [n].

    Args:
        wanted: what is expected, for messages.
        other: the metric of the categories that do not count.

    Raises:
        CotbalError: no category counts.
    """
    if names and not any(counted):
        raise CotbalError(
            f"{wanted}; found only {', '.join(sorted(set(names)))}, which {other} scores",
            "missing-category",
        )
    return leveled(np.array(counted, np.float64), names)
