"""ANLS (Biten et al. 2019, ST-VQA; DocVQA): how much of an answer is spelt right, nothing where
less than half is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

MAXIMUM = 1.0
HIGHER_IS_BETTER = True

_THRESHOLD = 0.5  # a similarity of exactly one half counts, as in lmms-eval


def score(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """1 - edit distance / length of the longer text, with the nearest reference; float64, shape
    [n].

    Case does not count, and white space is one blank. A similarity below one half is 0.
    """
    pairs = zip(predictions, references, strict=True)
    return np.array([_best(_normalise(answer), accepted) for answer, accepted in pairs], np.float64)


def constant_answer(references: Sequence[Sequence[str]]) -> str:
    """The most frequent reference, normalised; the first to appear when several are."""
    accepted = (answer for item in references for answer in dict.fromkeys(map(_normalise, item)))
    return max(Counter(accepted).items(), key=lambda pair: pair[1])[0]


def _normalise(text: str) -> str:
    return " ".join(text.lower().split())


def _best(answer: str, accepted: Sequence[str]) -> float:
    return max((_similarity(answer, _normalise(reference)) for reference in accepted), default=0.0)


def _similarity(answer: str, reference: str) -> float:
    longest = max(len(answer), len(reference))
    if not longest:
        return 1.0
    edits = Levenshtein.distance(answer, reference, score_cutoff=longest // 2)
    found = 1 - edits / longest
    return found if found >= _THRESHOLD else 0.0
