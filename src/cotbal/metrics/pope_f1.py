"""F1 of "yes" on POPE (Li et al. 2023): mean over its categories (adversarial, popular, random)."""

from __future__ import annotations

import numpy as np

from cotbal.metrics._categories import Records, categories, leveled
from cotbal.metrics._samples import Accepted, Answers, PerSample, References, per_sample
from cotbal.metrics._yes_no import label, problem_of

__all__ = ["HIGHER_IS_BETTER", "MAXIMUM", "constant_answer", "problem_of", "score", "weights"]

MAXIMUM = 1.0
HIGHER_IS_BETTER = True

_NO = {"No", "not", "no"}


def score(predictions: Answers, references: References) -> PerSample:
    """1.0 for a right answer, otherwise 0.0; float64, shape [n]. `weights` make it the F1."""
    return per_sample(_is_right, predictions, references)


def weights(predictions: Answers, references: References, records: Records = ()) -> PerSample:
    """What turns accuracy into F1 = 2 TP / (2 TP + FP + FN); float64, shape [n].

    A right "yes" counts twice, a wrong answer once, a right "no" not at all; then every category
    counts the same. Without a `category` in the records, all of them are one. A category where
    nobody says "yes" counts nothing.
    """
    right = score(predictions, references)
    yes = np.array([_yes_or_no(answer) == "yes" for answer in predictions], np.float64)
    in_category = np.where(right > 0, 2 * yes, 1.0)
    names = categories(records, len(right))
    return leveled(in_category, names)


def constant_answer(references: References) -> str:
    """Yes: an F1 without any yes is 0."""
    return "Yes"


def _is_right(answer: str, accepted: Accepted) -> bool:
    return _yes_or_no(answer) in map(label, accepted)


def _yes_or_no(answer: str) -> str:
    """`no` if the first sentence denies, otherwise `yes`, as in LLaVA's evaluation."""
    sentence, _, _ = answer.partition(".")
    words = sentence.replace(",", "").split(" ")
    return "yes" if _NO.isdisjoint(words) else "no"
