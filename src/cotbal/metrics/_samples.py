"""What several metrics do with samples: score each by a function, and find a constant answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

Answers = Sequence[str]
Accepted = Sequence[str]  # the references of one sample
References = Sequence[Accepted]
PerSample = Float[np.ndarray, " sample"]


def per_sample(
    rate: Callable[[str, Accepted], float],
    predictions: Answers,
    references: References,
) -> PerSample:
    """`rate(answer, accepted)` of every sample; float64, shape [n]."""
    ratings = [
        rate(answer, accepted) for answer, accepted in zip(predictions, references, strict=True)
    ]
    return np.array(ratings, np.float64)


def most_frequent(references: References, normalise: Callable[[str], str] = str) -> str:
    """The normalised reference of the most samples; the first to appear when several are."""
    samples: Counter[str] = Counter()
    for accepted in references:
        distinct = dict.fromkeys(map(normalise, accepted))  # in their order, unlike a set
        samples.update(distinct.keys())
    [(answer, _)] = samples.most_common(1)
    return answer


def quotient(numerator: PerSample, denominator: PerSample) -> PerSample:
    """`numerator / denominator`, and 0 where the denominator is not positive."""
    positive = denominator > 0
    zeros = np.zeros(len(numerator))
    return np.asarray(np.divide(numerator, denominator, out=zeros, where=positive))
