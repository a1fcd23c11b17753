"""Sampling ratios: how many records of every task an epoch shows, in place of weights on the
loss.
"""

from __future__ import annotations

from collections.abc import Mapping

from cotbal.errors import CotbalError


def mean_one(weights: Mapping[str, float], sizes: Mapping[str, float]) -> dict[str, float]:
    """`w_t * sum_s n_s / sum_s (w_s n_s)`: proportional weights whose mean over the sizes is 1.

    With valid tokens as sizes, a trainer that divides the weighted sum of losses by the plain
    number of tokens keeps the scale that it has without weights. With records as sizes, these are
    the repetitions of every record of a task that keep the number of records.

    Raises:
        CotbalError: the sizes are all 0.
    """
    total = sum(sizes.values())
    if not total > 0:
        raise CotbalError(
            f"expected answers with valid tokens in some task; found none in {', '.join(sizes)}",
            "no-valid-tokens",
        )
    weighted = sum(weight * sizes[task] for task, weight in weights.items())
    factor = total / weighted
    return {task: weight * factor for task, weight in weights.items()}


def passes(ratios: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
    """How often an epoch shows each record of a task: its ratio, scaled so that the number of
    records, and so of optimizer steps, is that without ratios.

    Args:
        ratios: task -> ratio, positive; only proportions matter.
        sizes: task -> number of records without ratios, for the tasks that are trained.
    """
    return mean_one({task: ratios[task] for task in sizes}, sizes)


def allotted(ratios: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, int]:
    """Number of records of every task in an epoch: `passes` times its size, rounded so that the sum
    is exactly that of the sizes, and at least one.
    """
    times = passes(ratios, sizes)
    # Every task gets one record; what is left is divided by what each wants beyond that.
    left = sum(sizes.values()) - len(sizes)
    extra = {task: max(times[task] * size - 1, 0.0) for task, size in sizes.items()}
    scale = left / (sum(extra.values()) or 1.0)
    counts = {}
    missing = left
    rounded_off = {}
    for task, value in extra.items():
        share = scale * value
        whole = int(share)
        counts[task] = 1 + whole
        missing -= whole
        rounded_off[task] = share - whole
    by_remainder = sorted(rounded_off, key=lambda task: -rounded_off[task])
    for task in by_remainder[:missing]:
        counts[task] += 1
    return counts
