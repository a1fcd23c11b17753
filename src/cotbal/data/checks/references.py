"""References that no answer can match: each must score its maximum when it is given as the answer.

"Given as the answer" includes what happens to the text of a model: it is cut off at
`max_new_tokens`, and decoded. Metrics that average over references (`PARTIAL_REFERENCES = True`) do
not give their maximum to each of them; for these the tokenizer must not lower the score.

An error is a reference that scores 0, or less than before when the tokenizer has written it. A
reference that scores less only because it is cut off, or by the nature of the metric, is a warning.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
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


class AnswerPath:
    """The change of a text when a model writes it: at most `max_new_tokens` tokens, decoded without
    special tokens, without white space at its ends.

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
        ids = [encoding.ids[: self.max_new_tokens] for encoding in encoded]
        decoded = self.tokenizer.decode_batch(ids, skip_special_tokens=True)
        return {text: back.strip() for text, back in zip(different, decoded, strict=True)}

    def tokens(self, text: str) -> int:
        """Tokens of a text; 0 without a tokenizer."""
        if self.tokenizer is None:
            return 0
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def change(self, text: str) -> str:
        """What changes a text on its way: its length, its ends, or the tokenizer."""
        back = self.texts([text])[text]
        if back == text.strip():
            return "starts or ends with white space, which is removed from answers"
        if self.tokens(text) > self.max_new_tokens:
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
    added = tokenizer.get_added_tokens_decoder().values()
    known = {token.content for token in added if token.special}
    tokenizer.add_special_tokens(sorted(tokens.all - known))  # as transformers does when it loads
    return AnswerPath(tokenizer, limit)


@dataclass(frozen=True)
class Findings:
    """Errors as number of the record (0: the file as a whole), message and code; and warnings."""

    problems: tuple[tuple[int, str, str], ...] = ()
    warnings: tuple[str, ...] = ()


def check_references(records: Sequence[Record], name: str, path: AnswerPath) -> Findings:
    """Errors and warnings about the references of evaluation records for the metric called `name`.

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
    try:
        return _judged(sound, name, given, path)
    except Exception as error:  # a metric of a user's own may raise anything
        return Findings(tuple(failures(sound, name, error)))


def _changed(
    records: Sequence[Record], name: str, given: Mapping[str, str], path: AnswerPath
) -> Iterator[str]:
    """For a metric that another command computes: references that no model can write unchanged."""
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
            f"record {record.number}: {short(text)} {path.change(text)}"
        )


@dataclass(frozen=True)
class _SelfScore:
    """Score of a reference as the answer: unchanged, and as a model would write it."""

    number: int
    text: str
    plain: float
    back: float


def _judged(
    records: Sequence[Record], name: str, given: Mapping[str, str], path: AnswerPath
) -> Findings:
    """Errors and warnings. Raises what the metric raises."""
    metric = load_metric(name)
    maximum = float(metric.MAXIMUM)
    partial = bool(getattr(metric, "PARTIAL_REFERENCES", False))
    constant = metric.constant_answer([record.references for record in records])
    scores_of(name, records, [constant] * len(records))
    problems: list[tuple[int, str, str]] = []
    cut: list[_SelfScore] = []
    below: list[_SelfScore] = []
    for score in _low_scores(records, name, given, partial):
        back, plain = f"{score.back:g}", f"{score.plain:g}"
        if score.back < score.plain:
            if score.back > 0 and path.tokens(score.text) > path.max_new_tokens:
                cut.append(score)
                continue
            worth = f"{back} instead of {plain}: it {path.change(score.text)}"
        elif score.plain > 0 or maximum <= 0:
            below += [] if partial else [score]
            continue
        else:
            worth = f"{plain} of {maximum:g}"
        message = (
            f"{name}: expected references that score their maximum as the answer; found"
            f" {short(score.text)}, which scores {worth}"
        )
        problems.append((score.number, message, "unreachable-reference"))
    warnings = [*_warning_of_cut(name, cut, path)]
    if below:
        first = below[0]
        warnings.append(
            f"{name}: {len(below):,} references of {len(records):,} records score less than the"
            f" maximum {maximum:g} as the answer; the first is {short(first.text)} in record"
            f" {first.number} ({first.plain:g}). If this is intended, set PARTIAL_REFERENCES = True"
            " in the metric's module"
        )
    return Findings(tuple(problems), tuple(warnings))


def _warning_of_cut(name: str, cut: Sequence[_SelfScore], path: AnswerPath) -> Iterator[str]:
    if cut:
        first = cut[0]
        yield (
            f"{name}: {len(cut):,} references have more tokens than generation.max_new_tokens ="
            f" {path.max_new_tokens}; answers like them are cut off and score less, as in record"
            f" {first.number} ({path.tokens(first.text)} tokens: {first.back:g} instead of"
            f" {first.plain:g})"
        )


def _low_scores(
    records: Sequence[Record], name: str, given: Mapping[str, str], partial: bool
) -> Iterator[_SelfScore]:
    """The references that score less than the maximum, or less than before on their way.

    All first references are scored together, then all second ones, and so on: a score may
    depend on the other answers of the file.
    """
    maximum = float(load_metric(name).MAXIMUM)
    near = _CLOSE * abs(maximum)
    for rank, (chosen, texts) in enumerate(_columns(records)):
        back_texts = [given[text] for text in texts]
        if rank and partial and texts == back_texts:
            continue
        plain = scores_of(name, chosen, texts)
        back = plain if texts == back_texts else scores_of(name, chosen, back_texts)
        rows = zip(chosen, texts, back_texts, plain, back, strict=True)
        for record, text, back_text, before, after in rows:
            lost = text != back_text and after < before - near
            if lost or before < maximum - near:
                yield _SelfScore(record.number, text, before, after if lost else before)


def _columns(records: Sequence[Record]) -> Iterator[tuple[list[Record], list[str]]]:
    """The first of the different references of every record, then the second ones, and so on."""
    different = [dict.fromkeys(record.references) for record in records]
    for column in zip_longest(*different):
        chosen = []
        texts = []
        for record, text in zip(records, column, strict=True):
            if text is not None:
                chosen.append(record)
                texts.append(text)
        yield chosen, texts


def scores_of(name: str, records: Sequence[Record], answers: Sequence[str]) -> list[float]:
    """The scores of these answers to the questions of these records."""
    references = [record.references for record in records]
    rows = [answer_row(record, "") for record in records]
    scores: list[float] = measure(name, answers, references, rows).values.tolist()
    return scores


def failures(
    records: Sequence[Record], name: str, error: Exception
) -> Iterator[tuple[int, str, str]]:
    """Which records make a metric fail; the file as a whole where none or each of them does."""
    failing = list(islice(_failing(records, name), _NAMED))
    if not failing or len(failing) == len(records):
        failing = [(0, error)]
    for number, failure in failing:
        if isinstance(failure, CotbalError):
            yield number, str(failure), failure.code
        else:
            reason = f"{type(failure).__name__}: {failure}"
            message = f"{name}: fails on its own references as answers: {reason}"
            yield number, message, "metric-failed"


def _failing(records: Sequence[Record], name: str) -> Iterator[tuple[int, Exception]]:
    for record in records:
        try:
            for text in record.references:
                measure(name, [text], [record.references], [answer_row(record, text)])
        except Exception as error:  # as above
            yield record.number, error


def short(text: object) -> str:
    """The beginning of a text, or of a list of texts, for a message."""
    shown = repr(text)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
