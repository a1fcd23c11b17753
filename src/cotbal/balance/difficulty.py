"""Intra-task difficulty, Eq. 9 (Eq. 16 and 17 are the same on other runs): the share of a score
that needs the full data.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def difficulty(
    full: Float[np.ndarray, "*resample task"],
    mini: Float[np.ndarray, "*resample task"],
    identified: Bool[np.ndarray, " task"],
) -> Float[np.ndarray, "*resample task"]:
    """`D[i] = (P[i,i] - P[mini,i]) / P[i,i]`, Eq. 9.

    Args:
        full: score of every task after the run that saw its large portion: its probe, or in Eq. 16
            and 17 the model trained on it alone.
        mini: score of every task after the run that saw its mini: the probe `mini`, or the model
            trained on it alone.
        identified: False where `full`, the denominator, may be zero or no better than a constant
            answer; the difficulty of this task is NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (full - mini) / full
    # As in Eq. 3: a resample with a denominator of zero stays an extreme value.
    return np.where(identified, np.nan_to_num(ratio, nan=0.0, posinf=1e6, neginf=-1e6), np.nan)
