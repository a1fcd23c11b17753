"""Inter-task contribution: Eq. 3 (Eq. 15 is the same on other runs), and its outward and inward
means, Eq. 4 and 6.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int


def contribution(
    full: Float[np.ndarray, "*resample unit task"],
    mini: Float[np.ndarray, "*resample task"],
    unit_of_task: Int[np.ndarray, " task"],
    identified: Bool[np.ndarray, " task"],
) -> Float[np.ndarray, "*resample unit task"]:
    """`C[i->j] = (P[i,j] - P[mini,j]) / (P[unit(j),j] - P[mini,j])`, Eq. 3.

    Args:
        full: scores of the probes `full:<unit>`; in Eq. 15, of the single-task models
            `solo:<unit>`.
        mini: scores of the probe `mini`; in Eq. 15, of the base checkpoint.
        unit_of_task: index of the unit that each task belongs to.
        identified: False where the gain of a task, its denominator, may be zero; the column of
            this receiver is NaN.
    """
    tasks = np.arange(len(unit_of_task))
    own_scores = full[..., unit_of_task, tasks]
    own_gain = own_scores - mini
    gain = full - mini[..., None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = gain / own_gain[..., None, :]
    # A resample can still have a gain of zero: it stays an extreme value, so that it widens the
    # interval.
    ratio = np.nan_to_num(ratio, nan=0.0, posinf=1e6, neginf=-1e6)
    return np.where(identified, ratio, np.nan)


def outward(
    contributions: Float[np.ndarray, "*resample giver receiver"],
) -> Float[np.ndarray, "*resample giver"]:
    """`C_out[i]`: mean of what unit i gives to every other unit, Eq. 4; NaN when no other receiver
    is identified.
    """
    return nan_mean(_without_diagonal(contributions))


def inward(
    contributions: Float[np.ndarray, "*resample giver receiver"],
) -> Float[np.ndarray, "*resample receiver"]:
    """`C_in[j]`: mean of what unit j receives from every other unit, Eq. 6; NaN when j is not
    identified.
    """
    by_receiver = np.swapaxes(contributions, -1, -2)
    return nan_mean(_without_diagonal(by_receiver))


def _without_diagonal(matrix: np.ndarray) -> np.ndarray:
    units = matrix.shape[-1]
    is_diagonal = np.eye(units, dtype=bool)
    return np.where(is_diagonal, np.nan, matrix)


def nan_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN where nothing is left (no warning from numpy)."""
    present = ~np.isnan(values)
    count = present.sum(axis=-1)
    total = np.where(present, values, 0.0).sum(axis=-1)
    mean = total / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)
