"""F1 of "yes" on POPE (Li et al. 2023): the mean over its categories (adversarial, popular,
random).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cotbal.metrics._categories import Records, categories, leveled
from cotbal.metrics._yes_no import label, problem_of

__all__ = ["HIGHER_IS_BETTER", "MAXIMUM", "constant_answer", "problem_of", "score", "weights"]

MAXIMUM = 1.0
HIGHER_IS_BETTER = True

_NO = {"No", "not", "no"}


def score(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """1.0 for a right answer, otherwise 0.0; float64, shape [n]. The score is their mean under
    `weights`.
    """
    pairs = zip(predictions, references, strict=True)
    return np.array(
        [_says(answer) in map(label, accepted) for answer, accepted in pairs], np.float64
    )


def weights(
    predictions: Sequence[str], references: Sequence[Sequence[str]], records: Records = ()
) -> np.ndarray:
    """What turns accuracy into F1 = 2 TP / (2 TP + FP + FN); float64, shape [n].

    A right "yes" counts twice, a wrong answer once, a right "no" not at all; then every category
    counts the same. Without a `category` in the records, all of them are one. A category where
    nobody says "yes" counts nothing.
    """
    right = score(predictions, references)
    said = np.array([_says(answer) == "yes" for answer in predictions], np.float64)
    return leveled(np.where(right > 0, 2 * said, 1.0), categories(records, len(right)))


def constant_answer(references: Sequence[Sequence[str]]) -> str:
    """Always yes: never saying it has an F1 of 0."""
    return "Yes"


def _says(answer: str) -> str:
    """Whatever does not deny in its first sentence is a yes, an empty answer too: so LLaVA's
    evaluation reads it.
    """
    words = answer.partition(".")[0].replace(",", "").split(" ")
    return "yes" if _NO.isdisjoint(words) else "no"
