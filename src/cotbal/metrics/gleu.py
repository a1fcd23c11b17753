"""GLEU (Wu et al. 2016): share of n-grams (1 to 4 words) in both answer and reference, by sentence.

Words are separated by spaces; in scripts without spaces each character is a word. `gleu_corpus` is
the value of a whole corpus, in which long sentences have more weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

from cotbal.metrics._words import split_words

MAXIMUM = 1.0
HIGHER_IS_BETTER = True

_ORDERS = range(1, 5)


def score(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """GLEU of every answer with its best reference; float64, shape [n]."""
    matches, grams = counts(predictions, references)
    return np.asarray(np.divide(matches, grams, out=np.zeros(len(matches)), where=grams > 0))


def counts(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """n-grams that every answer shares with its best reference, and n-grams of the longer of both.

    Their quotient is the smaller of precision and recall. Both are float64 of shape [n]; both are 0
    for texts without words.
    """
    pairs = [
        _best(answer, accepted) for answer, accepted in zip(predictions, references, strict=True)
    ]
    matches, grams = np.array(pairs, np.float64).reshape(-1, 2).T
    return matches, grams


def constant_answer(references: Sequence[Sequence[str]]) -> str:
    """The most frequent reference; the first to appear when several are."""
    return Counter(chain.from_iterable(references)).most_common(1)[0][0]


def _best(answer: str, accepted: Sequence[str]) -> tuple[int, int]:
    grams, best = _grams(answer), (0, 0)
    for other in map(_grams, accepted):
        shared, longer = (grams & other).total(), max(grams.total(), other.total())
        if longer and (not best[1] or shared / longer > best[0] / best[1]):
            best = (shared, longer)
    return best


def _grams(text: str) -> Counter[tuple[str, ...]]:
    words = split_words(text)
    return Counter(tuple(words[i : i + n]) for n in _ORDERS for i in range(len(words) - n + 1))
