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
from jaxtyping import Float, Shaped

from cotbal.metrics._samples import Answers, PerSample, References, quotient
from cotbal.metrics._words import split_words

MAXIMUM = 10.0
HIGHER_IS_BETTER = True
PARTIAL_REFERENCES = True  # each reference is compared with all others

_ORDERS = 4
_SIGMA = 6.0
PerGram = Shaped[np.ndarray, " gram"]  # one entry per n-gram of a text
PerText = Shaped[np.ndarray, " text"]


def score(predictions: Answers, references: References) -> PerSample:
    """CIDEr-D of every caption; float64, shape [n].

    Rarity is counted over the references of all n items: a single item has no rare n-grams and
    scores 0, and a caption's score depends on all items of the file.
    """
    assert len(predictions) == len(references)
    n = len(predictions)
    if n == 0:
        return np.zeros(0)
    items = np.arange(n)
    per_item = [len(accepted) for accepted in references]
    item = np.concatenate([items, np.repeat(items, per_item)])
    texts = [*predictions, *chain.from_iterable(references)]
    similar = np.zeros(len(texts))
    length = np.zeros(len(texts))
    for order, (text, gram) in enumerate(_grams(texts), 1):
        similar += _cosines(text, gram, item, n) / _ORDERS
        if order == 2:
            length = np.bincount(text, minlength=len(texts)).astype(np.float64)
    longer = length[item] - length
    similar *= np.exp(-(longer**2) / (2 * _SIGMA**2))
    total = np.bincount(item[n:], similar[n:], minlength=n)
    return MAXIMUM * total / per_item


def constant_answer(references: References) -> str:
    """The most frequent reference; the first to appear when several are."""
    texts = Counter(chain.from_iterable(references))
    [(answer, _)] = texts.most_common(1)
    return answer


def _grams(texts: Sequence[str]) -> Iterator[tuple[PerGram, PerGram]]:
    """For n = 1..4, two arrays over all n-grams: number of the text, number of the n-gram."""
    vocabulary: dict[str, int] = {}
    numbers, lengths = [], []
    for words in map(split_words, texts):
        lengths.append(len(words))
        for w in words:
            number = vocabulary.setdefault(w, len(vocabulary))
            numbers.append(number)
    word = np.array(numbers, np.int64)
    text = np.repeat(np.arange(len(texts)), lengths)
    gram = word
    start = np.arange(len(word))
    for n in range(1, _ORDERS + 1):
        yield text[start], gram
        # An n-gram grows by the next word, if that belongs to the same text.
        following = start + n
        last = len(word) - 1
        same_text = text[np.minimum(following, last)] == text[start]
        inside = (following <= last) & same_text
        start = start[inside]
        next_word = word[start + n]
        longer = gram[inside] * len(vocabulary) + next_word
        _, gram = np.unique(longer, return_inverse=True)


def _cosines(text: PerGram, gram: PerGram, item: PerText, n: int) -> PerText:
    """Cosine of every text with the caption of its item, over clipped TF-IDF; shape [texts].

    Args:
        text, gram: the n-grams of one order, see `_grams`.
        item: the item of every text; the first n texts are the captions.
    """
    texts = len(item)
    grams = int(gram.max(initial=0)) + 1
    pairs, counts = np.unique(text * grams + gram, return_counts=True)
    text, gram = np.divmod(pairs, grams)
    reference = text >= n
    rarity = _rarity(item[text[reference]], gram[reference], grams, n)
    value = counts * rarity[gram]
    key = item[text] * grams + gram
    # The entries of captions come first and are sorted by key.
    captions = int(np.searchsorted(text, n))
    clipped = np.minimum(_looked_up(key, key[:captions], value), value)
    product = np.bincount(text, clipped * value, minlength=texts)
    norm = np.sqrt(np.bincount(text, value**2, minlength=texts))
    return quotient(product, norm * norm[item])


def _looked_up(key: PerGram, known: PerGram, value: PerGram) -> PerGram:
    """The value at the place of every key among the sorted known ones; 0 for others."""
    if not len(known):
        return np.zeros(len(key))
    last = len(known) - 1
    index = np.minimum(np.searchsorted(known, key), last)
    return np.where(known[index] == key, value[index], 0.0)


def _rarity(item: PerGram, gram: PerGram, grams: int, n: int) -> Float[np.ndarray, " vocabulary"]:
    """log(n) - log(df) of every n-gram; df: number of items with it in a reference, at least 1."""
    once = np.unique(item * grams + gram) % grams
    items = np.bincount(once, minlength=grams)
    frequency = np.maximum(items, 1)
    return np.asarray(math.log(n) - np.log(frequency))
