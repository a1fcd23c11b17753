"""Exact match: right when the answer equals a reference, but for case, outer spaces and one full
stop at its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

MAXIMUM = 1.0
HIGHER_IS_BETTER = True


def score(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """1.0 for a right answer, otherwise 0.0; float64, shape [n]. With several references any of
    them is right.
    """
    pairs = zip(predictions, references, strict=True)
    right = [_normalise(answer) in map(_normalise, accepted) for answer, accepted in pairs]
    return np.array(right, np.float64)


def constant_answer(references: Sequence[Sequence[str]]) -> str:
    """The one answer that is right most often, normalised; the first to appear when several are."""
    accepted = (answer for item in references for answer in dict.fromkeys(map(_normalise, item)))
    return max(Counter(accepted).items(), key=lambda pair: pair[1])[0]


def _normalise(answer: str) -> str:
    return answer.strip().lower().removesuffix(".")
