"""Relaxed accuracy of ChartQA (Masry et al. 2022): numbers within 5 %, words equal but for case."""

from __future__ import annotations

import math

from cotbal.metrics._samples import (
    Accepted,
    Answers,
    PerSample,
    References,
    most_frequent,
    per_sample,
)

MAXIMUM = 1.0
HIGHER_IS_BETTER = True

_TOLERANCE = 0.05  # of the reference


def score(predictions: Answers, references: References) -> PerSample:
    """1.0 if the answer agrees with any of its references, otherwise 0.0; float64, shape [n].

    `12%` is the number 0.12. A reference of 0, or one that is not a finite number, is compared as
    text. Outer blanks are ignored.
    """
    return per_sample(_agrees_with_any, predictions, references)


def constant_answer(references: References) -> str:
    """The most frequent reference, in small letters; the first to appear when several are."""
    return most_frequent(references, _text)


def _agrees_with_any(answer: str, accepted: Accepted) -> bool:
    return any(_agree(answer, reference) for reference in accepted)


def _agree(answer: str, reference: str) -> bool:
    given = _number(answer)
    wanted = _number(reference)
    if given is not None and wanted:
        error = abs(given - wanted)
        return error / abs(wanted) <= _TOLERANCE
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
