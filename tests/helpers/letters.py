"""A metric that a model which has hardly learned anything scores above 0 with, given by its dotted
path.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

MAXIMUM = 1.0
HIGHER_IS_BETTER = True


def score(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> Float[np.ndarray, " sample"]:
    """`(1 + shared) / (1 + all)` of the different letters of an answer and its reference."""
    scores = []
    for answer, accepted in zip(predictions, references, strict=True):
        letters, expected = set(answer), set(accepted[0])
        scores.append((1 + len(letters & expected)) / (1 + len(letters | expected)))
    return np.array(scores)


def constant_answer(references: Sequence[Sequence[str]]) -> str:
    """The first reference."""
    return references[0][0]
