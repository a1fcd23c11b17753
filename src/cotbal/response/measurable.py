"""Tasks that cannot be measured at this size: noise far above that of the others, or two levels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from cotbal.response.shapes import PerScore, TrialScore

MANY_TIMES = 4.0  # noise of the median task
LARGE = 5.0  # noise in % of the score that makes a task hard to measure at all
APART = 20.0  # distance of two levels in % of the score
SPLIT = 0.85  # share of the variance that lies between the two levels; 0.64 for a normal
FEWEST = 2  # trials on either level


def unmeasurable(
    scored: tuple[str, ...],
    noise: PerScore,
    unexplained: TrialScore,
) -> dict[str, str]:
    """Task -> why its response cannot be measured with these trials.

    Args:
        scored: names of the tasks.
        noise: of one run, from the task's own residuals, in % of its score.
        unexplained: scores without what weights explain, levels of seeds included, in %.
    """
    typical = float(np.median(noise))
    reasons = {}
    for name, deviation, rest in zip(scored, noise, unexplained.T, strict=True):
        if deviation > LARGE and deviation > MANY_TIMES * typical:
            reasons[name] = (
                f"its noise is {deviation:.0f} % of the score, that of the median task"
                f" {typical:.1f} %"
            )
        elif (distance := _two_levels(np.sort(rest))) > APART:
            reasons[name] = (
                f"its scores fall into two groups {distance:.0f} % apart that the weights do not"
                " explain, as when a skill appears suddenly in some runs"
            )
    return reasons


def _two_levels(values: Float[np.ndarray, " trial"]) -> float:
    """Distance of the means of the two best groups of sorted values; 0 where one group does."""
    count = len(values)
    away = values - values.mean()
    total = (away**2).sum()
    explained, apart = 0.0, 0.0
    for k in range(FEWEST, count - FEWEST + 1):
        distance = values[k:].mean() - values[:k].mean()
        between = k * (count - k) / count * distance**2
        if between > explained:
            explained, apart = float(between), float(distance)
    if explained > SPLIT * total:
        return apart
    return 0.0
