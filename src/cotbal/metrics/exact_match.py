"""Exact match: the answer equals a reference, ignoring case, outer spaces and a final full stop."""

from __future__ import annotations

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


def score(predictions: Answers, references: References) -> PerSample:
    """1.0 if the answer equals any of its references, otherwise 0.0; float64, shape [n]."""
    return per_sample(_is_right, predictions, references)


def constant_answer(references: References) -> str:
    """The one answer that is right most often, normalised; the first to appear when several are."""
    return most_frequent(references, _normalise)


def _is_right(answer: str, accepted: Accepted) -> bool:
    return _normalise(answer) in map(_normalise, accepted)


def _normalise(answer: str) -> str:
    return answer.strip().lower().removesuffix(".")
