"""What a report shows of more tasks than a reader can look at: both ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cotbal.report.formatting import listed

MANY = 60  # rows; of more, both ends are shown
END = 20  # rows of either end
NAMED = 6  # a sentence lists at most this many names


def ends(values: Sequence[float] | np.ndarray) -> list[int]:
    """Indices of the largest and the smallest values, the largest first; NaN is left out.

    Of at most `MANY` values, or if none is known, the first `MANY` in their order.
    """
    array = np.asarray(values, dtype=float)
    known = np.flatnonzero(~np.isnan(array))
    if len(array) <= MANY or not len(known):
        return list(range(min(len(array), MANY)))
    descending = known[np.argsort(-array[known], kind="stable")].tolist()
    if len(descending) <= 2 * END:
        return descending
    return [*descending[:END], *descending[-END:]]


def some(names: Sequence[str]) -> str:
    """Names in a sentence; of more than `MANY`, the first few and how many others there are."""
    if len(names) <= MANY:
        return listed(names)
    others = len(names) - NAMED
    return listed([*names[:NAMED], f"{others} others"])
