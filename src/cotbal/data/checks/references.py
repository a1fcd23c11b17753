"""References that no answer can match: each must score its maximum when it is given as the answer.

"Given as the answer" is what a model would have to do: write it within `max_new_tokens`, and have
it decoded. Metrics that average over references (`PARTIAL_REFERENCES = True`) do not give their
maximum to each of them; for these the way through the tokenizer must cost nothing.

An error is a reference that scores 0, or less than before when the tokenizer has written it. A
reference that scores less only because it is cut off, or by the nature of the metric, is a warning.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cotbal.data.batches.tokens import open_tokenizer
from cotbal.data.checks.special_tokens import SpecialTokens
from cotbal.data.reading.record import Record, answer_row
from cotbal.errors import CotbalError, MissingDependency
from cotbal.recipe.recipe import Recipe
from cotbal.scores.measure import given_by, load_metric, measure, problem_finder

_CLOSE = 1e-9  # of the maximum
_SHOWN = 60  # characters of a text in a message
_NAMED = 20  # records that make a metric fail


@dataclass(frozen=True)
class Findings:
    """Errors as pairs of a record's number (0: the file as a whole) and a message, and warnings."""

    problems: tuple[tuple[int, str], ...] = ()
    warnings: tuple[str, ...] = ()


def check_references(records: Sequence[Record], name: str, path: AnswerPath) -> Findings:
    """What is wrong with the references of evaluation records for the metric called `name`.

    Left out are records whose references the metric itself rejects (`problem_of`).

    Raises:
        CotbalError: there is no such metric.
    """
    find = problem_finder(name)
    sound = [record for record in records if find is None or not find(record.references)]
    if not sound:
        return Findings()
    given = path.texts(text for record in sound for text in record.references)
    if given_by(name):
        return Findings(warnings=tuple(_changed(sound, name, given, path)))
    case = _Case(name, sound, given)
    try:
        return case.findings(path)
    except Exception as error:  # a metric of a user's own may raise anything
        return Findings(tuple(_failures(sound, name, error)))


def _changed(
    records: Sequence[Record], name: str, given: Mapping[str, str], path: AnswerPath
) -> Iterator[str]:
    """For a metric that another command gives: references that no model could say as they are."""
    changed = [
        (record, text)
        for record in records
        for text in record.references
        if given[text].split() != text.split()
    ]
    if changed:
        record, text = changed[0]
        yield (
            f"{name}: {len(changed):,} references cannot be answered as they are; the first is in "
            f"record {record.number}: {_short(text)} {path.change(text)}"
        )


@dataclass(frozen=True)
class _SelfScore:
    """Score of a reference as the answer: as it is, and as a model could say it."""

    number: int
    text: str
    plain: float
    back: float


class _Case:
    """The references of one file with one metric."""

    def __init__(self, name: str, records: Sequence[Record], given: Mapping[str, str]) -> None:
        self.name = name
        self.records = records
        self.given = given
        self.references = [record.references for record in records]
        self.rows = [answer_row(record, "") for record in records]
        self.metric = load_metric(name)
        self.maximum = float(self.metric.MAXIMUM)
        self.partial = bool(getattr(self.metric, "PARTIAL_REFERENCES", False))

    def findings(self, path: AnswerPath) -> Findings:
        """Errors and warnings; whatever the metric raises is raised here."""
        everyone = range(len(self.records))
        self._scores([self.metric.constant_answer(self.references)] * len(everyone), everyone)
        problems: list[tuple[int, str]] = []
        cut: list[_SelfScore] = []
        below: list[_SelfScore] = []
        for each in self._self_scores():
            if each.back < each.plain and each.back > 0 and path.is_cut(each.text):
                cut.append(each)
            elif each.back < each.plain:
                change = f"{each.back:g} instead of {each.plain:g}: it {path.change(each.text)}"
                problems.append((each.number, self._expected(each, change)))
            elif each.plain <= 0 < self.maximum:
                message = f"{each.plain:g} of {self.maximum:g}"
                problems.append((each.number, self._expected(each, message)))
            elif not self.partial:
                below.append(each)
        return Findings(tuple(problems), (*self._cut(cut, path), *self._below(below)))

    def _expected(self, each: _SelfScore, score: str) -> str:
        return (
            f"{self.name}: expected references that score their maximum as the answer; found"
            f" {_short(each.text)}, which scores {score}"
        )

    def _self_scores(self) -> Iterator[_SelfScore]:
        """The references that score less than the maximum, or less than before on their way.

        All first references are scored together, then all second ones, and so on: a score may
        depend on the other answers of the file.
        """
        different = [list(dict.fromkeys(texts)) for texts in self.references]
        for place in range(max(map(len, different))):
            chosen = [i for i in range(len(different)) if place < len(different[i])]
            yield from self._low_scores(chosen, [different[i][place] for i in chosen], place)

    def _low_scores(
        self, chosen: Sequence[int], texts: Sequence[str], place: int
    ) -> Iterator[_SelfScore]:
        near = _CLOSE * abs(self.maximum)
        back_texts = [self.given[text] for text in texts]
        same = list(texts) == back_texts
        if place and self.partial and same:
            return
        plain = self._scores(texts, chosen)
        back = plain if same else self._scores(back_texts, chosen)
        rows = zip(chosen, texts, back_texts, plain, back, strict=True)
        for i, text, back_text, before, after in rows:
            lost = text != back_text and after < before - near
            if lost or before < self.maximum - near:
                yield _SelfScore(self.records[i].number, text, before, after if lost else before)

    def _scores(self, answers: Sequence[str], chosen: Sequence[int]) -> list[float]:
        references = [self.references[i] for i in chosen]
        rows = [self.rows[i] for i in chosen]
        found: list[float] = measure(self.name, answers, references, rows).values.tolist()
        return found

    def _cut(self, cut: Sequence[_SelfScore], path: AnswerPath) -> Iterator[str]:
        if cut:
            first = cut[0]
            yield (
                f"{self.name}: {len(cut):,} references have more tokens than"
                f" generation.max_new_tokens = {path.max_new_tokens}; answers like them are cut off"
                f" and score less, as in record {first.number} ({path.tokens(first.text)} tokens:"
                f" {first.back:g} instead of {first.plain:g})"
            )

    def _below(self, below: Sequence[_SelfScore]) -> Iterator[str]:
        if below:
            first = below[0]
            yield (
                f"{self.name}: {len(below):,} references of {len(self.records):,} records score"
                f" less than the maximum {self.maximum:g} as the answer; the first is"
                f" {_short(first.text)} in record {first.number} ({first.plain:g}). If the metric"
                " means it so, set PARTIAL_REFERENCES = True in its module"
            )


def _failures(records: Sequence[Record], name: str, error: Exception) -> Iterator[tuple[int, str]]:
    """Which records make a metric fail; the file as a whole where none or each of them does."""
    failing = list(islice(_failing(records, name), min(_NAMED, len(records))))
    if failing and len(failing) < len(records):
        yield from ((number, _said(name, each)) for number, each in failing)
    else:
        yield 0, _said(name, error)


def _failing(records: Sequence[Record], name: str) -> Iterator[tuple[int, Exception]]:
    for record in records:
        try:
            for text in record.references:
                measure(name, [text], [record.references], [answer_row(record, text)])
        except Exception as error:  # as above
            yield record.number, error


def _said(name: str, error: Exception) -> str:
    if isinstance(error, CotbalError):
        return str(error)
    return f"{name}: fails on its own references as answers: {type(error).__name__}: {error}"


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."


class AnswerPath:
    """Gives a text back as a model that says it would: as tokens, at most `max_new_tokens` of them,
    decoded without special tokens, without white space at its ends.

    Args:
        tokenizer: a `tokenizers.Tokenizer`; None: white space alone is removed.
        max_new_tokens: as in the recipe.

    Attributes:
        identity: a text that is the same for two paths only if they change texts alike.
    """

    def __init__(self, tokenizer: Any | None, max_new_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.identity = "" if tokenizer is None else f"{max_new_tokens} {tokenizer.to_str()}"

    def texts(self, answers: Iterable[str]) -> dict[str, str]:
        """Every different text -> the text that a metric gets."""
        different = list(dict.fromkeys(answers))
        if self.tokenizer is None:
            return {text: text.strip() for text in different}
        encoded = self.tokenizer.encode_batch(different, add_special_tokens=False)
        ids = [each.ids[: self.max_new_tokens] for each in encoded]
        decoded = self.tokenizer.decode_batch(ids, skip_special_tokens=True)
        return {text: back.strip() for text, back in zip(different, decoded, strict=True)}

    def tokens(self, text: str) -> int:
        """Tokens of a text; 0 without a tokenizer."""
        if self.tokenizer is None:
            return 0
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def is_cut(self, text: str) -> bool:
        """Whether a text has more tokens than an answer can have."""
        return self.tokens(text) > self.max_new_tokens

    def change(self, text: str) -> str:
        """What changes a text on its way: its length, its ends, or the tokenizer."""
        back = self.texts([text])[text]
        if back == text.strip():
            return "starts or ends with white space, which is removed from answers"
        if self.is_cut(text):
            limit = self.max_new_tokens
            return f"has {self.tokens(text)} tokens, and generation.max_new_tokens is {limit}"
        same = unicodedata.normalize("NFC", text) == unicodedata.normalize("NFC", back)
        remark = ", the same characters in another Unicode form," if same else ""
        return f"becomes {back!r}{remark} when the tokenizer of the checkpoint has written it"


def answer_path(recipe: Recipe, tokens: SpecialTokens) -> AnswerPath:
    """The way of answers with the recipe's checkpoint; without a tokenizer.json, white space alone.

    Args:
        tokens: the special tokens of the checkpoint.
    """
    limit = recipe.file.generation.max_new_tokens
    file = None if recipe.file.model is None else Path(recipe.checkpoint) / "tokenizer.json"
    if file is None or not file.is_file():
        return AnswerPath(None, limit)
    try:
        tokenizer = open_tokenizer(file, "special tokens")
    except MissingDependency:
        return AnswerPath(None, limit)
    known = {
        token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special
    }
    tokenizer.add_special_tokens(sorted(tokens.all - known))  # as transformers does when it loads
    return AnswerPath(tokenizer, limit)
