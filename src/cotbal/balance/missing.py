"""Receivers that are not identified: an outward mean (Eq. 4) over the others is a mean over a
sample of the receivers, and its interval has to hold that. Eq. N3.

The mean over `m` of `M` receivers differs from the mean over all of them with variance
`s^2 / m * (1 - m / M)`, where `s^2` is the variance of a giver's contributions between receivers
(sampling without replacement from a finite population). `s^2` is pooled over givers.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cotbal.balance.contribution import nan_mean


def with_missing_receivers(
    outward: Float[np.ndarray, "resample giver"],
    contribution: Float[np.ndarray, "giver receiver"],
    names: Sequence[str],
    seed: int,
) -> Float[np.ndarray, "resample giver"]:
    """Outward means of every resample, moved by what the missing receivers could add.

    Args:
        contribution: the estimate; a column of NaN is a receiver that is not identified.
        names: of the units; they seed the draws, so that their order does not matter.
        seed: of the draws.
    """
    units = len(contribution)
    is_diagonal = np.eye(units, dtype=bool)
    others = np.where(is_diagonal, np.nan, contribution)
    known = (~np.isnan(others)).sum(axis=1)
    if not known.any() or known.min() == units - 1:
        return outward
    variance, freedom = _between_receivers(others)
    missing = 1 - known / (units - 1)
    deviation = np.sqrt(variance * missing / np.maximum(known, 1))
    resamples = len(outward)
    moves = np.empty((resamples, units))
    for i, name in enumerate(names):
        entropy = [seed, zlib.crc32(b"receivers"), zlib.crc32(name.encode())]
        generator = np.random.default_rng(entropy)
        move = generator.standard_t(freedom, resamples)
        moves[:, i] = deviation[i] * move
    return outward + moves


def _between_receivers(others: Float[np.ndarray, "giver receiver"]) -> tuple[float, int]:
    """Variance of contributions between the receivers of a giver, and its degrees of freedom.

    With one receiver left there is no variance between receivers; that between givers is used.
    """
    means = nan_mean(others)
    centred = others - means[:, None]
    present = ~np.isnan(others)
    receivers = present.sum(axis=1)
    freedom = int(np.maximum(receivers - 1, 0).sum())
    if freedom > 0:
        squares = np.nansum(centred**2)
        return float(squares / freedom), freedom
    values = others[present]
    if len(values) < 2:
        return float(values[0] ** 2), 1
    variance = float(np.var(values, ddof=1))
    return variance, len(values) - 1
