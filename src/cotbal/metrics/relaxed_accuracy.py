"""Relaxed accuracy of ChartQA (Masry et al. 2022): a number may be off by 5 %, words must be equal
but for case.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

MAXIMUM = 1.0
HIGHER_IS_BETTER = True

_TOLERANCE = 0.05  # of the reference


def score(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """1.0 for a right answer, otherwise 0.0; float64, shape [n]. With several references any of
    them is right.

    `12%` is the number 0.12. A reference of 0, or one that is no finite number, must be met as
    text. Blanks around an answer or a reference do not count.
    """
    pairs = zip(predictions, references, strict=True)
    return np.array(
        [any(_agree(answer, one) for one in accepted) for answer, accepted in pairs], np.float64
    )


def constant_answer(references: Sequence[Sequence[str]]) -> str:
    """The most frequent reference, in small letters; the first to appear when several are."""
    accepted = (answer for item in references for answer in dict.fromkeys(map(_text, item)))
    return max(Counter(accepted).items(), key=lambda pair: pair[1])[0]


def _agree(answer: str, reference: str) -> bool:
    given, wanted = _number(answer), _number(reference)
    if given is not None and wanted:
        return abs(given - wanted) / abs(wanted) <= _TOLERANCE
    return _text(answer) == _text(reference)


def _text(answer: str) -> str:
    return answer.strip().lower()


def _number(answer: str) -> float | None:
    text = answer.strip()
    try:
        number = float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
