"""F1 of "yes" on POPE (Li et al. 2023): mean over its categories (adversarial, popular, random)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cotbal.metrics._categories import Records, categories, leveled
from cotbal.metrics._samples import per_sample
from cotbal.metrics._yes_no import label, problem_of

__all__ = ["HIGHER_IS_BETTER", "MAXIMUM", "constant_answer", "problem_of", "score", "weights"]

MAXIMUM = 1.0
HIGHER_IS_BETTER = True

_NO = {"No", "not", "no"}


def score(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """1.0 for a right answer, otherwise 0.0; float64, shape [n]. `weights` make it the F1."""
    return per_sample(_is_right, predictions, references)


def weights(
    predictions: Sequence[str], references: Sequence[Sequence[str]], records: Records = ()
) -> np.ndarray:
    """What turns accuracy into F1 = 2 TP / (2 TP + FP + FN); float64, shape [n].

    A right "yes" counts twice, a wrong answer once, a right "no" not at all; then every category
    counts the same. Without a `category` in the records, all of them are one. A category where
    nobody says "yes" counts nothing.
    """
    right = score(predictions, references)
    yes = np.array([_yes_or_no(answer) == "yes" for answer in predictions], np.float64)
    return leveled(np.where(right > 0, 2 * yes, 1.0), categories(records, len(right)))


def constant_answer(references: Sequence[Sequence[str]]) -> str:
    """Yes: an F1 without any yes is 0."""
    return "Yes"


def _is_right(answer: str, accepted: Sequence[str]) -> bool:
    return _yes_or_no(answer) in map(label, accepted)


def _yes_or_no(answer: str) -> str:
    """`no` if the first sentence denies, otherwise `yes`, as in LLaVA's evaluation."""
    words = answer.partition(".")[0].replace(",", "").split(" ")
    return "yes" if _NO.isdisjoint(words) else "no"
