"""Accuracy of VQAv2 (Goyal et al. 2017): full if at least three of ten people gave the answer.

Answers are normalised as MMF's `EvalAIAnswerProcessor` does, which LLaVA's evaluation uses too:
small letters, no punctuation, no articles, digits for number words, apostrophes in contractions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from cotbal.errors import CotbalError
from cotbal.metrics._samples import Accepted, Answers, PerSample, References, per_sample

MAXIMUM = 1.0
HIGHER_IS_BETTER = True
PARTIAL_REFERENCES = True  # people disagree

_ENOUGH = 3  # people who agree
_SIGNS = ';/[]"{}()=+\\_-><@`!'
_NUMBERS = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
_ARTICLES = {"a", "an", "the"}
_FULL_STOP = re.compile(r"\.(?!\d)")  # not the point of a decimal
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
    mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll
    you're you've
"""
# One apostrophe left out; and one word that MMF's table has the wrong way round.
_CONTRACTIONS = {
    word[:i] + word[i + 1 :]: word
    for word in _CONTRACTED.split()
    for i, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}


def score(predictions: Answers, references: References) -> PerSample:
    """Mean over all people of min(1, others who gave this answer / 3); float64, shape [n].

    With ten references, k of which agree: 0, 0.3, 0.6, 0.9 for k = 0 to 3, and 1 from 4 on.

    Raises:
        CotbalError: a sample has fewer than four references, so no answer could be fully right.
    """
    return per_sample(
        lambda answer, accepted: _agreement(normalise(answer), _people(accepted)),
        predictions,
        references,
    )


def problem_of(references: Accepted) -> str:
    """Why the references of a sample are invalid; empty if valid."""
    if len(references) > _ENOUGH:
        return ""
    return (
        f"expected the answers of ten people, four at least; found {len(references)}; use"
        " exact_match for one answer"
    )


def constant_answer(references: References) -> str:
    """The answer that scores most, normalised; the first to appear when several do."""
    total: Counter[str] = Counter()
    for accepted in references:
        people = _people(accepted)
        for answer in dict.fromkeys(people):
            total[answer] += round(_agreement(answer, people) * 1e9)  # integers, for exact ties
    return total.most_common(1)[0][0]


@lru_cache(maxsize=1 << 16)  # people give the same short answers
def normalise(answer: str) -> str:
    """The form in which answers are compared, and submitted to the VQA server by LLaVA."""
    text = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ")
    before = text
    for sign in _SIGNS:
        beside_a_blank = f"{sign} " in before or f" {sign}" in before
        text = text.replace(sign, "" if beside_a_blank else " ")
    words = (_NUMBERS.get(word, word) for word in _FULL_STOP.sub("", text).split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _people(accepted: Accepted) -> list[str]:
    problem = problem_of(accepted)
    if problem:
        raise CotbalError(f"vqa_soft: {problem}", "invalid-reference")
    return [normalise(answer) for answer in accepted]


def _agreement(answer: str, people: Sequence[str]) -> float:
    """Mean over all people of what the others say about the answer."""
    same = people.count(answer)
    different = len(people) - same
    rating_of_same = min(1.0, (same - 1) / _ENOUGH)
    rating_of_different = min(1.0, same / _ENOUGH)
    return (same * rating_of_same + different * rating_of_different) / len(people)
