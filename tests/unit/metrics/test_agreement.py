"""CIDEr and GLEU against implementations that others wrote: a few dozen drawn answers, one to five
references each.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from nltk.translate.gleu_score import corpus_gleu, sentence_gleu
from pycocoevalcap.cider.cider import Cider

from cotbal.scores.measure import measure

N = 48
WORDS = "a the A frog Frog frogs, two 2 don't red/blue e.g. 3.5 . ? größe ☃ on under of in"
References = list[list[str]]


def drawn(seed: int, shortest: int) -> tuple[list[str], References]:
    """Answers that share words with their references: copies, beginnings, the same words shuffled,
    and others.
    """
    draw = random.Random(seed)

    def text() -> str:
        return " ".join(draw.choices(WORDS.split(), k=draw.randint(shortest, 14)))

    references = [[text() for _ in range(draw.randint(1, 5))] for _ in range(N)]
    answers = []
    for accepted in references:
        words = draw.choice(accepted).split()
        kept = words[: draw.randint(shortest, max(shortest, len(words)))]
        shuffled = draw.sample(words, len(words))
        answers.append(draw.choice([" ".join(words), " ".join(kept), " ".join(shuffled), text()]))
    return answers, references


def alone(references: References) -> References:
    return [accepted[:1] for accepted in references]


def split(texts: Sequence[str]) -> list[list[str]]:
    return [text.split() for text in texts]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("several", [True, False])
def test_cider_is_that_of_pycocoevalcap(seed: int, several: bool) -> None:
    answers, references = drawn(seed, 1)
    references = references if several else alone(references)
    score, items = Cider().compute_score(
        dict(enumerate(references)), {i: [text] for i, text in enumerate(answers)}
    )
    ours = measure("cider", answers, references)
    np.testing.assert_allclose(ours.values, items, rtol=0, atol=1e-10)
    assert ours.score == pytest.approx(score, abs=1e-10)
    assert 0.5 < score < 9.5, "answers that are all right or all wrong would prove nothing"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("several", [True, False])
def test_gleu_is_that_of_nltk(seed: int, several: bool) -> None:
    answers, references = drawn(seed, 0)
    references = references if several else alone(references)
    said, true = split(answers), [split(accepted) for accepted in references]
    items = [sentence_gleu(accepted, text) for accepted, text in zip(true, said, strict=True)]
    np.testing.assert_allclose(
        measure("gleu", answers, references).values, items, rtol=0, atol=1e-12
    )
    assert measure("gleu_corpus", answers, references).score == pytest.approx(
        corpus_gleu(true, said), abs=1e-12
    )
    assert 0.1 < np.mean(items) < 0.95
