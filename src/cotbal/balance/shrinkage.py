"""Contributions pulled toward their mean by their own noise: empirical Bayes (Morris 1983), not
part of the paper.

A contribution with a small denominator is noisy, and the softmax takes its noise at full strength.
With `C` the contributions between different units, `v` their sampling variances and `t` the
variance of the true values, the best linear estimate of a true value is `m + t / (t + v) (C - m)`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

TINY = np.finfo(float).tiny  # a smaller variance cannot be divided by
SMALLEST_SHARE = 1e-12  # of the largest variance: a smaller one is arithmetic


def shrink(
    contributions: Float[np.ndarray, "*resample giver receiver"],
    variances: Float[np.ndarray, "giver receiver"],
) -> Float[np.ndarray, "*resample giver receiver"]:
    """Contributions pulled toward their mean, each by its own share of noise; the diagonal and NaN
    stay.

    Args:
        contributions: `C[giver, receiver]`, one matrix or one per resample.
        variances: of every contribution over resamples.
    """
    is_diagonal = np.eye(variances.shape[0], dtype=bool)
    is_known = ~np.isnan(variances)
    between = ~is_diagonal & is_known
    if between.sum() < 2:
        return contributions
    values = contributions[..., between]
    noise = variances[between]
    total = np.var(values, axis=-1, ddof=1)
    signal = np.maximum(total - noise.mean(), 0.0)[..., None]
    spread = signal + noise
    largest = spread.max(axis=-1, keepdims=True)
    share = np.divide(spread, largest, out=np.ones_like(spread), where=largest > TINY)
    trust = np.divide(signal, spread, out=np.ones_like(spread), where=spread > TINY)
    # Precise values count more in the common mean than noisy ones.
    precision = 1 / np.maximum(share, SMALLEST_SHARE)
    weighted = (precision * values).sum(axis=-1, keepdims=True)
    center = weighted / precision.sum(axis=-1, keepdims=True)
    shrunk = contributions.copy()
    shrunk[..., between] = center + trust * (values - center)
    return shrunk
