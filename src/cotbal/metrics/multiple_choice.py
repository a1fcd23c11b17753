"""The letter of the right option (SEED-Bench, ScienceQA, A-OKVQA), and MMBench's circular rule.

MMBench (Liu et al. 2023) repeats a question for every rotation of its options; it is right when all
answers are. Records of one question have the same `rotation_of`; a record without it is a question.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

import numpy as np

from cotbal.metrics._categories import Records, detail
from cotbal.metrics._samples import Accepted, Answers, PerSample, References, per_sample

MAXIMUM = 1.0
HIGHER_IS_BETTER = True

_MARKUP = re.compile(r"[*_`$]")  # bold, code, formulas
_TAG = re.compile(r"</?\w+>")  # <answer>B</answer>
_LINE_END = r"[^\w\n]*(?=\n|\Z)"
# A capital that is the whole of what is chosen: the A of "A dog" is an article, "A, B" is no
# choice. In brackets a small letter is one, too.
_CHOICE = (
    r"(?:[(\[]([A-Za-z])[)\]]|[\"'“]?([A-Z])[\"'”]?"
    rf"(?: ?[).:;\]。]| [(–—-] ?|, (?!and|or)[a-z]+|,?(?= (?:because|since|as)\b)|{_LINE_END}))"
)
# The same where no article can be meant: whatever follows, except a second letter.
_MENTION = r"\(?([A-Z])(?![A-Za-z]| ?(?:[、,/和与及或]|and|or) ?\(?[A-Z](?![A-Za-z]))"
_IS = r"(?: (?:is|would be|should be|must be))?:?[ \n]?(?:(?:the )?(?:option|choice|letter):? ?)?"
# In this order, the first that finds a letter decides. The beginning of the first one is that of
# LLaVA's and lmms-eval's evaluations of ScienceQA, and so is "The answer is B." in the third.
_READINGS = (
    re.compile(rf"\A\W*([A-Za-z])(?: ?\.|{_LINE_END})|\n[^\w\n]*([A-Z])\W*\Z"),
    re.compile(r"\\f?boxed ?\{\W*(?:(?:text|math)\w*\{\W*)?([A-Za-z])(?=\W*\}| ?[).:])"),
    re.compile(rf"\b(?i:answer{_IS}){_CHOICE}|(?:答案|答)(?:应该|应)?(?:是|为|选)?:? ?{_MENTION}"),
    re.compile(r"\A\W*([A-Za-z])(?: ?[):]|、(?![A-Za-z])| [–—-] )"),
    re.compile(
        rf"\b(?i:(?:choice|choose|select|pick){_IS}){_CHOICE}"
        r"|(?:\(([A-Za-z])\)|\b([A-Z])) is (?:the )?(?:correct|right|best)\b"
        rf"|选(?:择|为)?:? ?{_MENTION}"
    ),
    re.compile(rf"(?:\b(?i:option)(?: is)?:? ?|选项(?:是|为)?:? ?){_MENTION}"),
)


def score(predictions: Answers, references: References, records: Records = ()) -> PerSample:
    """1.0 when the question is answered right, in all rotations; otherwise 0.0; float64, shape [n].

    With several references any of them is right.
    """
    right = per_sample(_is_right, predictions, references)
    questions = _questions(records, len(right))
    wrong = {question for question, good in zip(questions, right, strict=True) if not good}
    return np.array([question not in wrong for question in questions], np.float64)


def weights(predictions: Answers, references: References, records: Records = ()) -> PerSample:
    """One for every question, shared by its rotations; float64, shape [n]."""
    questions = _questions(records, len(predictions))
    rotations = Counter(questions)
    return np.array([1 / rotations[question] for question in questions], np.float64)


def problem_of(references: Accepted) -> str:
    """Why the references of a sample are invalid; empty if valid."""
    if _letters(references):
        return ""
    return f"expected the letter of an option; found {references[0]!r}"


def constant_answer(references: References) -> str:
    """The letter that is right most often; the first to appear when several are."""
    letters: Counter[str] = Counter()
    for accepted in references:
        letters.update(_letters(accepted))
    if not letters:
        return ""
    [(letter, _)] = letters.most_common(1)
    return letter


def _is_right(answer: str, accepted: Accepted) -> bool:
    return _letter(answer) in _letters(accepted)


def _letters(references: Accepted) -> list[str]:
    """The letters that are right, each once."""
    return [letter for letter in dict.fromkeys(map(_letter, references)) if letter]


def _letter(text: str) -> str:
    """The letter that a text chooses, as a capital; empty for none or several."""
    plain = _plain(text)
    for reading in _READINGS:
        letters = {match[match.lastindex or 0].upper() for match in reading.finditer(plain)}
        if letters:
            return letters.pop() if len(letters) == 1 else ""
    return ""


def _plain(text: str) -> str:
    """Full-width letters in usual form; no markup, empty lines or runs of blanks."""
    usual = unicodedata.normalize("NFKC", text)
    without_markup = _MARKUP.sub("", usual)
    bare = _TAG.sub("\n", without_markup)
    lines = (" ".join(line.split()) for line in bare.split("\n"))
    return "\n".join(filter(None, lines))


def _questions(records: Records, n: int) -> list[tuple[str, str]]:
    """The question of every sample; tuples, so that a name never equals the number of a sample."""
    questions = []
    for i in range(n):
        name = detail(records[i], "rotation_of", None) if records else None
        question = ("alone", str(i)) if name is None else ("rotation", str(name))
        questions.append(question)
    return questions
