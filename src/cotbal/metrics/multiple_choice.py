"""The letter of the right option (SEED-Bench, ScienceQA, A-OKVQA), and the circular rule of MMBench
(Liu et al. 2023).

MMBench asks a question once for every rotation of its options, and it is right when all of them
are. Records of one question hold the same `rotation_of`; a record without it is a question of its
own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from cotbal.metrics._categories import Records, detail

MAXIMUM = 1.0
HIGHER_IS_BETTER = True

# A letter alone, or with a sign behind it that sets it off: the A of "A dog" is an article, and "A,
# B" is no choice.
_LETTER = re.compile(r"\W*([A-Za-z])(?:\s*[).:]|\W*$)")
_SAID = re.compile(r"\b(?i:answer|option)(?: is)?:? ?\(?([A-Z])(?:[).:]|\W*$)", re.MULTILINE)


def score(
    predictions: Sequence[str], references: Sequence[Sequence[str]], records: Records = ()
) -> np.ndarray:
    """1.0 when the question is answered right, in all rotations; otherwise 0.0; float64, shape [n].

    With several references any of them is right.
    """
    pairs = zip(predictions, references, strict=True)
    right = [
        _letter(answer) in map(_letter, accepted) and _letter(answer) != ""
        for answer, accepted in pairs
    ]
    questions = _questions(records, len(right))
    wrong = {question for question, good in zip(questions, right, strict=True) if not good}
    return np.array([question not in wrong for question in questions], np.float64)


def weights(
    predictions: Sequence[str], references: Sequence[Sequence[str]], records: Records = ()
) -> np.ndarray:
    """One for every question, shared by its rotations; float64, shape [n]."""
    questions = _questions(records, len(predictions))
    rotations = Counter(questions)
    return np.array([1 / rotations[question] for question in questions], np.float64)


def fault_of(references: Sequence[str]) -> str:
    """What is wrong with the references of a sample; empty when nothing is."""
    return (
        ""
        if any(map(_letter, references))
        else f"expected the letter of an option; found {references[0]!r}"
    )


def constant_answer(references: Sequence[Sequence[str]]) -> str:
    """The letter that is right most often; the first to appear when several are."""
    return max(
        Counter(_letter(accepted[0]) for accepted in references).items(), key=lambda pair: pair[1]
    )[0]


def _letter(text: str) -> str:
    """The letter that a text begins with or says to be the answer, as a capital; empty when there
    is none.
    """
    found = _LETTER.match(text) or _SAID.search(text)
    return found[1].upper() if found else ""


def _questions(records: Records, n: int) -> list[tuple[str, str]]:
    """The question of every sample; tuples, so that a name never meets the number of a sample
    without one.
    """
    names = [detail(record, "rotation_of", None) for record in records] or [None] * n
    return [
        ("alone", str(i)) if name is None else ("rotation", str(name))
        for i, name in enumerate(names)
    ]
