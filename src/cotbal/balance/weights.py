"""From contribution and difficulty to weights: Eq. 5, 7, 8, 10, 11, and the temperature."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from cotbal.errors import ScoresError

Parts = dict[str, Float[np.ndarray, "*resample unit"]]

HIGHEST_TEMPERATURE = 1e4


def softmax_weights(
    values: Float[np.ndarray, "*resample unit"], temperature: float
) -> Float[np.ndarray, "*resample unit"]:
    """`T * softmax(x / tau)`, Eq. 5, 7, 10: positive, mean 1.

    A unit whose value is NaN (not identified) takes the mean weight, 1; the softmax runs over the
    others, so that the mean stays 1 and a missing measurement changes no other weight.
    """
    present = ~np.isnan(values)
    scaled = np.where(present, values / temperature, -np.inf)
    highest = np.max(scaled, axis=-1, keepdims=True)
    shift = np.where(np.isfinite(highest), highest, 0.0)
    powers = np.exp(scaled - shift)
    count = present.sum(axis=-1, keepdims=True)
    total = powers.sum(axis=-1, keepdims=True)
    divisor = np.where(count > 0, total, 1.0)
    weights = count * powers / divisor
    return np.where(present, weights, 1.0)


def weight_parts(
    outward: Float[np.ndarray, "*resample unit"],
    inward: Float[np.ndarray, "*resample unit"],
    difficulty: Float[np.ndarray, "*resample unit"],
    temperature: float,
) -> Parts:
    """The parts of the weights and their combination.

    `outward` (Eq. 5) favours units that help others, `inward` (Eq. 7) units that others do not
    help; `inter` (Eq. 8) is their mean. `intra` (Eq. 10) favours difficult units. `all` (Eq. 11) is
    the mean of `inter` and `intra`.
    """
    parts = {
        "outward": softmax_weights(outward, temperature),
        "inward": softmax_weights(-inward, temperature),
        "intra": softmax_weights(difficulty, temperature),
    }
    parts["inter"] = (parts["outward"] + parts["inward"]) / 2
    parts["all"] = (parts["inter"] + parts["intra"]) / 2
    return parts


def smallest_temperature(
    weights_at: Callable[[float], Float[np.ndarray, " unit"]], low: float, high: float
) -> float:
    """The smallest temperature from which on every weight stays inside [low, high].

    Weights tend to 1 as the temperature grows, so walk down a geometric grid until one leaves the
    range, then bisect.

    Raises:
        ScoresError: no temperature up to `HIGHEST_TEMPERATURE` does.
    """

    def inside(temperature: float) -> bool:
        weights = weights_at(temperature)
        are_inside = (weights >= low) & (weights <= high)
        return bool(np.all(are_inside))

    good = HIGHEST_TEMPERATURE
    if not inside(good):
        raise ScoresError(
            f"temperature auto: no temperature up to {good:g} keeps every weight between {low:g}"
            f" and {high:g}; give a wider range, or a temperature"
        )
    while good > 1e-3 and inside(good / 1.1):
        good /= 1.1
    bad = good / 1.1
    if inside(bad):
        return bad
    for _ in range(40):
        middle = (good + bad) / 2
        if inside(middle):
            good = middle
        else:
            bad = middle
    return good
