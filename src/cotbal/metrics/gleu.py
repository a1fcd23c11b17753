"""GLEU (Wu et al. 2016): share of n-grams (1 to 4 words) in both answer and reference, by sentence.

Words are separated by spaces; in scripts without spaces each character is a word. `gleu_corpus` is
the value of a whole corpus, in which long sentences have more weight.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np

from cotbal.metrics._samples import Accepted, Answers, PerSample, References, quotient
from cotbal.metrics._words import split_words

MAXIMUM = 1.0
HIGHER_IS_BETTER = True

_ORDERS = range(1, 5)
Gram = tuple[str, ...]


def score(predictions: Answers, references: References) -> PerSample:
    """GLEU of every answer with its best reference; float64, shape [n]."""
    matches, grams = counts(predictions, references)
    return quotient(matches, grams)


def counts(predictions: Answers, references: References) -> tuple[PerSample, PerSample]:
    """n-grams that every answer shares with its best reference, and n-grams of the longer of both.

    Their quotient is the smaller of precision and recall. Both are float64 of shape [n]; both are 0
    for texts without words.
    """
    matches, grams = [], []
    for answer, accepted in zip(predictions, references, strict=True):
        shared, longer = _best(answer, accepted)
        matches.append(shared)
        grams.append(longer)
    return np.array(matches, np.float64), np.array(grams, np.float64)


def constant_answer(references: References) -> str:
    """The most frequent reference; the first to appear when several are."""
    texts = Counter(chain.from_iterable(references))
    [(answer, _)] = texts.most_common(1)
    return answer


def _best(answer: str, accepted: Accepted) -> tuple[int, int]:
    """Shared n-grams and n-grams of the longer text, for the reference with the best quotient."""
    grams = _grams(answer)
    best = (0, 0)
    best_share = -1.0
    for reference in accepted:
        other = _grams(reference)
        shared = (grams & other).total()
        longer = max(grams.total(), other.total())
        if longer and shared / longer > best_share:
            best = (shared, longer)
            best_share = shared / longer
    return best


def _grams(text: str) -> Counter[Gram]:
    words = split_words(text)
    grams: Counter[Gram] = Counter()
    for n in _ORDERS:
        starts = range(len(words) - n + 1)
        grams.update(tuple(words[start : start + n]) for start in starts)
    return grams
