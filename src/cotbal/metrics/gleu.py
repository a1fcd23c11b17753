"""GLEU (Wu et al. 2016): the share of n-grams, of 1 to 4 words, that answer and reference have in
common, by sentence.

The words are what is between spaces, and each character of scripts without spaces. The value of a
whole corpus, which weighs long sentences more, is `gleu_corpus`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cotbal.metrics._words import split_words

MAXIMUM = 1.0
HIGHER_IS_BETTER = True

_ORDERS = range(1, 5)


def score(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """GLEU of every answer with the reference that suits it best; float64, shape [n]."""
    matches, grams = counts(predictions, references)
    found: np.ndarray = np.divide(matches, grams, out=np.zeros(len(matches)), where=grams > 0)
    return found


def counts(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Of every answer, the n-grams that it shares with its best reference, and those of the longer
    one of the two.

    Their quotient is the smaller of precision and recall. Both are float64 of shape [n]; an answer
    and references without any word give 0 and 0.
    """
    pairs = [
        _best(answer, accepted) for answer, accepted in zip(predictions, references, strict=True)
    ]
    matches, grams = np.array(pairs, np.float64).reshape(-1, 2).T
    return matches, grams


def constant_answer(references: Sequence[Sequence[str]]) -> str:
    """The most frequent reference; the first to appear when several are."""
    return max(
        Counter(text for accepted in references for text in accepted).items(),
        key=lambda pair: pair[1],
    )[0]


def _best(answer: str, accepted: Sequence[str]) -> tuple[int, int]:
    own = _grams(answer)
    pairs = [
        ((own & other).total(), max(own.total(), other.total())) for other in map(_grams, accepted)
    ]
    return max(
        (pair for pair in pairs if pair[1]), key=lambda pair: pair[0] / pair[1], default=(0, 0)
    )


def _grams(text: str) -> Counter[tuple[str, ...]]:
    words = split_words(text)
    return Counter(tuple(words[i : i + n]) for n in _ORDERS for i in range(len(words) - n + 1))
