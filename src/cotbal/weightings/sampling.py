"""Temperature sampling: the records of small tasks are repeated, those of large ones left out; all
tokens count alike (Raffel et al. 2020, Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer, Section 3.5.2).

A task with n records is sampled in proportion to `n ** exponent`, where the exponent is the inverse
of the paper's temperature: `sampling:0` shows all tasks equally often, `sampling:0.5` is in
between, `sampling:1` shows every record once, as EW does. The paper's limit on the size of a task
is left out. Nothing is drawn: records are repeated as with any other sampling ratios.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cotbal.errors import CotbalError
from cotbal.weightings import Static

LABEL = "Sampling"
SAMPLING = "sampling"  # the method; its variant is the exponent
EXAMPLES = ("0", "0.5", "1")


def build(tasks: Sequence[str], *, variant: str) -> Static:
    """Equal weights: the ratios do the balancing.

    Raises:
        CotbalError: `variant` is no exponent.
    """
    exponent_of(variant)
    return Static((1.0,) * len(tasks))


def ratios(sizes: Mapping[str, int], exponent: float) -> dict[str, float]:
    """Sampling ratios with mean 1: `n ** (exponent - 1)` up to a common factor.

    Args:
        sizes: unit -> training records, positive.
        exponent: from 0 to 1.
    """
    values = {unit: size ** (exponent - 1) for unit, size in sizes.items()}
    mean = sum(values.values()) / len(values)
    return {unit: value / mean for unit, value in values.items()}


def exponent_of(variant: str) -> float:
    """The number after the colon.

    Raises:
        CotbalError: `variant` is no exponent.
    """
    try:
        exponent = float(variant)
    except ValueError:
        exponent = math.nan
    if not 0 <= exponent <= 1:
        raise CotbalError(
            f"weighting {SAMPLING}: expected an exponent from 0 (all tasks equally often) to 1"
            f" (every record once) after the colon; found {variant!r}",
            "invalid-option",
        )
    return abs(exponent)  # 0 where it is written as -0
