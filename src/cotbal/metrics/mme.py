"""Perception score of MME (Fu et al. 2023): accuracy and accuracy+ in %, added up over ten
categories, on 0-2000.

Accuracy+ is the share of images whose two questions are both answered right. The four categories
of cognition are a score of their own (`mme_cognition`) and count nothing here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cotbal.metrics._categories import Records, categories, leveled_among
from cotbal.metrics._yes_no import LABELS, label, problem_of

__all__ = ["HIGHER_IS_BETTER", "MAXIMUM", "constant_answer", "problem_of", "score", "weights"]

MAXIMUM = 2000.0
HIGHER_IS_BETTER = True

_EACH = 1000.0  # ten categories of 100 % accuracy, and as much accuracy+
COGNITION = {"commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"}


def score(
    predictions: Sequence[str], references: Sequence[Sequence[str]], records: Records = ()
) -> np.ndarray:
    """1000 for a right answer, 1000 more when all answers on its image are right; float64, [n].

    The score is their mean under `weights`. Fewer categories than ten, as in a subset, are scaled
    up to ten.
    """
    pairs = zip(predictions, references, strict=True)
    right = np.array(
        [
            _reads(answer) in map(label, accepted) and _reads(answer) != ""
            for answer, accepted in pairs
        ]
    )
    image = _images(records, len(right))
    wrong = Counter(place for place, good in zip(image, right, strict=True) if not good)
    return _EACH * (right.astype(np.float64) + [place not in wrong for place in image])


def weights(
    predictions: Sequence[str], references: Sequence[Sequence[str]], records: Records = ()
) -> np.ndarray:
    """The same for every category of perception, and inside it for every answer; float64, shape
    [n].

    Raises:
        CotbalError: there are categories of cognition alone.
    """
    names = categories(records, len(predictions))
    counted = [name not in COGNITION for name in names]
    return leveled_among(counted, names, "mme: expected categories of perception", "mme_cognition")


def constant_answer(references: Sequence[Sequence[str]]) -> str:
    """Yes or no, whichever is right more often."""
    truth = Counter(word for accepted in references for word in set(map(label, accepted)))
    return "Yes" if truth["yes"] >= truth["no"] else "No"


def _reads(text: str) -> str:
    """`yes` or `no` when it is in the first four letters, otherwise nothing: so the official
    program reads it.
    """
    start = text.lower().strip().replace(".", "")[:4]
    return next((word for word in LABELS if word in start), "")


def _images(records: Records, n: int) -> list[tuple[str, ...]]:
    """Which samples are on one image of one category; a sample without images stands alone."""
    names = categories(records, n)
    own = [tuple(record.get("images", ())) for record in records] or [()] * n
    return [
        (name, *images) if images else (name, str(i))
        for i, (name, images) in enumerate(zip(names, own, strict=True))
    ]
