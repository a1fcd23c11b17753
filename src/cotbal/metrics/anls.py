"""ANLS (Biten et al. 2019, ST-VQA; DocVQA): similarity of spelling, 0 below one half."""

from __future__ import annotations

from rapidfuzz.distance import Levenshtein

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

_THRESHOLD = 0.5  # a similarity of exactly one half counts, as in lmms-eval


def score(predictions: Answers, references: References) -> PerSample:
    """1 - edit distance / length of the longer text, for the nearest reference; float64, shape [n].

    Case is ignored, and white space is one blank. A similarity below one half is 0.
    """
    return per_sample(_best, predictions, references)


def constant_answer(references: References) -> str:
    """The most frequent reference, normalised; the first to appear when several are."""
    return most_frequent(references, _normalise)


def _normalise(text: str) -> str:
    return " ".join(text.lower().split())


def _best(answer: str, accepted: Accepted) -> float:
    normalised = _normalise(answer)
    best = 0.0
    for reference in accepted:
        similarity = _similarity(normalised, _normalise(reference))
        best = max(best, similarity)
    return best


def _similarity(answer: str, reference: str) -> float:
    longest = max(len(answer), len(reference))
    if not longest:
        return 1.0
    edits = Levenshtein.distance(answer, reference, score_cutoff=longest // 2)
    similarity = 1 - edits / longest
    return similarity if similarity >= _THRESHOLD else 0.0
