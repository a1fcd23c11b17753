"""What several metrics do with samples: score each by a function, and find a constant answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np


def per_sample(
    rate: Callable[[str, Sequence[str]], float],
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
) -> np.ndarray:
    """`rate(answer, accepted)` of every sample; float64, shape [n]."""
    pairs = zip(predictions, references, strict=True)
    return np.array([rate(answer, accepted) for answer, accepted in pairs], np.float64)


def most_frequent(
    references: Sequence[Sequence[str]], normalise: Callable[[str], str] = str
) -> str:
    """The normalised reference of the most samples; the first to appear when several are."""
    samples = (dict.fromkeys(map(normalise, accepted)) for accepted in references)
    return Counter(answer for answers in samples for answer in answers).most_common(1)[0][0]
