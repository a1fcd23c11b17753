"""Exact match: the answer equals a reference, ignoring case, outer spaces and a final full stop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cotbal.metrics._samples import most_frequent, per_sample

MAXIMUM = 1.0
HIGHER_IS_BETTER = True


def score(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """1.0 if the answer equals any of its references, otherwise 0.0; float64, shape [n]."""
    return per_sample(_is_right, predictions, references)


def constant_answer(references: Sequence[Sequence[str]]) -> str:
    """The one answer that is right most often, normalised; the first to appear when several are."""
    return most_frequent(references, _normalise)


def _is_right(answer: str, accepted: Sequence[str]) -> bool:
    return _normalise(answer) in map(_normalise, accepted)


def _normalise(answer: str) -> str:
    return answer.strip().lower().removesuffix(".")
