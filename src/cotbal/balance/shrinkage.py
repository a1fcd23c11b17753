"""Contributions pulled toward their mean by their own noise: empirical Bayes (Morris 1983), Eq. N4,
not part of the paper.

A contribution with a small denominator is noisy, and the softmax passes all of this noise on.
With `C` the contributions between different units, `v` their sampling variances and `t` the
variance of the true values, the best linear estimate of a true value is `m + t / (t + v) (C - m)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jaxtyping import Bool, Float

TINY = np.finfo(float).tiny  # a smaller variance cannot be divided by
SMALLEST_SHARE = 1e-12  # of the largest variance: a smaller one is arithmetic

# Receiver, contributions to it in every resample.
Column = tuple[int, Float[np.ndarray, "resample giver"]]


def shrink(
    contributions: Float[np.ndarray, "giver receiver"],
    variances: Float[np.ndarray, "giver receiver"],
) -> Float[np.ndarray, "giver receiver"]:
    """Contributions pulled toward their mean, each by its own share of noise; the diagonal and NaN
    stay.

    Args:
        variances: of every contribution over resamples.
    """
    between = _between(variances)
    if between.sum() < 2:
        return contributions
    values = contributions[between]
    noise = variances[between]
    total = np.var(values, ddof=1, keepdims=True)
    signal = np.maximum(total - noise.mean(), 0.0)
    precision = _precision(signal + noise, signal + noise.max())
    weighted = precision * values
    center = weighted.sum(keepdims=True) / precision.sum()
    shrunk = contributions.copy()
    shrunk[between] = _pull(values, center, signal, noise)
    return shrunk


class Shrinkage:
    """The same for every resample by itself, one receiver at a time.

    Attributes:
        variances: of every contribution over resamples.
    """

    def __init__(self, columns: Callable[[], Iterable[Column]], units: int) -> None:
        """Read the columns twice: for their variances, and for the mean of every resample."""
        self.variances = np.full((units, units), np.nan)
        spread = _Spread()
        for receiver, values in columns():
            self.variances[:, receiver] = np.var(values, axis=0)
            known = ~np.isnan(self.variances[:, receiver])
            known[receiver] = False
            spread.add(values[:, known])
        self._between = _between(self.variances)
        noise = self.variances[self._between]
        if len(noise) < 2:
            return
        total = spread.squares / (len(noise) - 1)
        signal = np.maximum(total - noise.mean(), 0.0)
        self._signal = signal[:, None]
        largest = self._signal + noise.max()
        sums = np.zeros_like(largest)
        weights = np.zeros_like(largest)
        for values, noise in self._known(columns()):
            spread_of_cell = self._signal + noise
            precision = _precision(spread_of_cell, largest)
            weighted = precision * values
            sums += weighted.sum(axis=1, keepdims=True)
            weights += precision.sum(axis=1, keepdims=True)
        self._center = sums / weights

    def _known(self, columns: Iterable[Column]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Values of the resamples and their variances, without the diagonal and NaN."""
        for receiver, values in columns:
            chosen = self._between[:, receiver]
            yield values[:, chosen], self.variances[chosen, receiver]

    def pulled(
        self, receiver: int, values: Float[np.ndarray, "resample giver"]
    ) -> Float[np.ndarray, "resample giver"]:
        """The contributions to one receiver."""
        chosen = self._between[:, receiver]
        if self._between.sum() < 2:
            return values
        noise = self.variances[chosen, receiver]
        shrunk = values.copy()
        pulled = _pull(values[:, chosen], self._center, self._signal, noise)
        shrunk[:, chosen] = pulled
        return shrunk


class _Spread:
    """Squared deviations of every row from its mean; its columns come in parts (Chan 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: np.ndarray = np.zeros(1)
        self.squares: np.ndarray = np.zeros(1)

    def add(self, values: Float[np.ndarray, "row column"]) -> None:
        count = values.shape[1]
        if not count:
            return
        mean = values.mean(axis=1)
        centred = values - mean[:, None]
        inside = np.square(centred).sum(axis=1)
        move = mean - self.mean
        joint = self.count + count
        share = count / joint
        between = move**2 * self.count * share
        self.squares = self.squares + inside + between
        self.mean = self.mean + move * share
        self.count = joint


def _between(variances: Float[np.ndarray, "giver receiver"]) -> Bool[np.ndarray, "giver receiver"]:
    """Known contributions between different units."""
    return ~np.eye(len(variances), dtype=bool) & ~np.isnan(variances)


def _precision(spread: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Of values with these variances: precise ones count more in the common mean than noisy
    ones.
    """
    divisor = np.broadcast_to(largest, spread.shape)
    share = np.divide(spread, divisor, out=np.ones_like(spread), where=divisor > TINY)
    return 1 / np.maximum(share, SMALLEST_SHARE)


def _pull(
    values: np.ndarray, center: np.ndarray, signal: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    spread = signal + noise
    divided = np.broadcast_to(signal, spread.shape)
    trust = np.divide(divided, spread, out=np.ones_like(spread), where=spread > TINY)
    return np.asarray(center + trust * (values - center))
