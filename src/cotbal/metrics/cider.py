"""CIDEr-D (Vedantam et al. 2015, Eq. 9): rare n-grams that a caption shares with its references.

The range is 0-10. Words are those of `str.split`, with case and punctuation, as in the published
evaluation of CoTBal. In scripts without spaces, such as Chinese, Japanese and Thai, each character
is a word.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from cotbal.metrics._words import split_words

MAXIMUM = 10.0
HIGHER_IS_BETTER = True
PARTIAL_REFERENCES = True  # each reference is compared with all others

_ORDERS = 4
_SIGMA = 6.0


def score(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D of every caption; float64, shape [n].

    Rarity is counted over the references of all n items: a single item has no rare n-grams and
    scores 0, and a caption's score depends on all items of the file.
    """
    assert len(predictions) == len(references)
    n = len(predictions)
    if n == 0:
        return np.zeros(0)
    answers = np.arange(n)
    item = np.concatenate([answers, np.repeat(answers, [len(accepted) for accepted in references])])
    texts = [*predictions, *(text for accepted in references for text in accepted)]
    similar = np.zeros(len(texts))
    length = np.zeros(len(texts))
    for order, (text, gram) in enumerate(_grams(texts), 1):
        similar += _cosines(text, gram, item, n) / _ORDERS
        if order == 2:
            length = np.bincount(text, minlength=len(texts)).astype(np.float64)
    similar *= np.exp(-((length[item] - length) ** 2) / (2 * _SIGMA**2))
    total = np.bincount(item[n:], similar[n:], minlength=n)
    return MAXIMUM * total / np.bincount(item[n:], minlength=n)


def constant_answer(references: Sequence[Sequence[str]]) -> str:
    """The most frequent reference; the first to appear when several are."""
    return Counter(chain.from_iterable(references)).most_common(1)[0][0]


def _grams(texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For n = 1..4, two arrays over all n-grams: number of the text, number of the n-gram."""
    vocabulary: dict[str, int] = {}
    split = [split_words(text) for text in texts]
    word = np.array(
        [vocabulary.setdefault(w, len(vocabulary)) for words in split for w in words], np.int64
    )
    text = np.repeat(np.arange(len(texts)), [len(words) for words in split])
    gram, start = word, np.arange(len(word))
    for n in range(1, _ORDERS + 1):
        yield text[start], gram
        # An n-gram grows by the next word, if that belongs to the same text.
        inside = (start + n < len(word)) & (
            text[np.minimum(start + n, len(word) - 1)] == text[start]
        )
        start = start[inside]
        gram = np.unique(gram[inside] * len(vocabulary) + word[start + n], return_inverse=True)[1]


def _cosines(text: np.ndarray, gram: np.ndarray, item: np.ndarray, n: int) -> np.ndarray:
    """Cosine of every text with the caption of its item, over clipped TF-IDF; shape [texts].

    Args:
        text, gram: the n-grams of one order, see `_grams`.
        item: the item of every text; the first n texts are the captions.
    """
    grams = int(gram.max(initial=0)) + 1
    pairs, counts = np.unique(text * grams + gram, return_counts=True)
    text, gram = np.divmod(pairs, grams)
    value = counts * _rarity(item[text[text >= n]], gram[text >= n], grams, n)[gram]
    norm = np.sqrt(np.bincount(text, value**2, minlength=len(item)))
    key = item[text] * grams + gram
    captions = int(np.searchsorted(text, n))  # their entries come first and are sorted by key
    index = np.minimum(np.searchsorted(key[:captions], key), max(captions - 1, 0))
    caption = np.where(key[index] == key, value[index], 0.0) if captions else np.zeros(len(key))
    product = np.bincount(text, np.minimum(caption, value) * value, minlength=len(item))
    norms = norm * norm[item]
    cosines: np.ndarray = np.divide(product, norms, out=np.zeros(len(item)), where=norms > 0)
    return cosines


def _rarity(item: np.ndarray, gram: np.ndarray, grams: int, n: int) -> np.ndarray:
    """log(n) - log(df) of every n-gram; df: number of items with it in a reference, at least 1."""
    once = np.unique(item * grams + gram) % grams
    frequency = np.maximum(np.bincount(once, minlength=grams), 1)
    return np.asarray(math.log(n) - np.log(frequency))
