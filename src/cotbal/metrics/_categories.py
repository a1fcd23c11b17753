"""Scores that are means over categories of any number of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cotbal.errors import CotbalError
from cotbal.metrics._samples import PerSample, quotient

Record = Mapping[str, Any]
Records = Sequence[Record]


def categories(records: Records, n: int) -> list[str]:
    """The `category` of each of n samples; empty where the records have none."""
    if not records:
        return [""] * n
    return [str(detail(record, "category", "")) for record in records]


def detail(record: Record, name: str, otherwise: Any) -> Any:
    """A field of a record beside conversation and images."""
    details = record.get("details", {})
    return details.get(name, otherwise)


def leveled(weights: PerSample, names: Sequence[str]) -> PerSample:
    """Weights scaled so that they sum to 1 in every category that has any; shape [n]."""
    if not len(weights):
        return np.zeros(0)
    labels = np.array(names, dtype=object).astype(str)
    _, category = np.unique(labels, return_inverse=True)
    totals = np.bincount(category, weights)
    return quotient(weights, totals[category])


def leveled_among(
    counted: Sequence[bool],
    names: Sequence[str],
    wanted: str,
    other: str,
) -> PerSample:
    """The same weight for every category that counts and every sample inside it; shape [n].

    Args:
        wanted: what is expected, for messages.
        other: the metric of the categories that do not count.

    Raises:
        CotbalError: no category counts.
    """
    if names and not any(counted):
        present = ", ".join(sorted(set(names)))
        raise CotbalError(
            f"{wanted}; found only {present}, which {other} scores",
            "missing-category",
        )
    weights = np.array(counted, np.float64)
    return leveled(weights, names)
