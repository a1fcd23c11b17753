"""Texts of a mixture that would not be trained, asked or scored as intended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cotbal.data.checks import options, references
from cotbal.data.checks.options import check_options, problems_of_options, warnings_of_options
from cotbal.data.checks.references import AnswerPath, Findings, answer_path, check_references
from cotbal.data.checks.special_tokens import (
    SpecialTokens,
    problems_of_instruction,
    problems_of_texts,
    read_special_tokens,
    warnings_of_texts,
)
from cotbal.data.files import write_json
from cotbal.data.reading.record import Problem, Record, first_lines
from cotbal.data.reading.records import Records, sound_records
from cotbal.errors import CotbalError, DataError
from cotbal.recipe.mixture import TRAIN
from cotbal.recipe.recipe import Recipe
from cotbal.scores.code_digest import code_digest
from cotbal.scores.measure import load_metric

_SHOWN = 5


@dataclass
class TextReport:
    """Errors, which keep a recipe from running, and warnings, which do not."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check_texts(
    recipe: Recipe,
    cache: Path,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> TextReport:
    """Special tokens in records and instructions, and references that no answer can match.

    Without a checkpoint on disk there are no special tokens, and answers only lose white space.

    Args:
        cache: directory of converted records; records that have errors of their own are left out.
        progress: receives what is being read, how much of it is done, and how much there is.
    """
    report = TextReport()
    known = recipe.file.model is not None
    tokens = read_special_tokens(Path(recipe.checkpoint)) if known else SpecialTokens()
    path = answer_path(recipe, tokens)
    for task in recipe.mixture.tasks:
        report.problems += problems_of_instruction(task, recipe.path, tokens)
        for split, file in task.files.items():
            # other errors of the records are reported where they are read first
            with sound_records(file, cache, split != TRAIN) as (records, others):
                progress(f"{task.name} {split}: texts of records", 0, len(records))
                broken = list(problems_of_texts(records, tokens))
                report.warnings += warnings_of_texts(records, tokens)
                chosen = task.choose is not None and split != TRAIN
                if chosen:
                    broken += problems_of_options(records, tokens)
                    report.warnings += warnings_of_options(records)
                report.problems += broken
                kept = None if others or broken else cache
                answers = _Answers(records, broken, None if chosen else path, kept)
                for metric in () if split == TRAIN else task.metrics_of(split):
                    _check_answers(report, metric, answers)
    return report


def need_sound_texts(recipe: Recipe, cache: Path) -> tuple[str, ...]:
    """The warnings of `check_texts`.

    Raises:
        DataError: the first errors by file and record, and how many more there are.
    """
    report = check_texts(recipe, cache)
    if report.problems:
        raise DataError(
            f"{len(report.problems):,} texts cannot be trained or scored as intended:\n"
            f"{first_lines(report.problems, _SHOWN)}\n"
            f"`cotbal check {recipe.path}` lists each of them",
            report.problems[0].code if len(report.problems) == 1 else "invalid-records",
        )
    return tuple(report.warnings)


@dataclass(frozen=True)
class _Answers:
    """Evaluation records of a file, and the way to answer them.

    Attributes:
        broken: errors of records that are left out.
        path: the way of generated answers; None where answers are chosen among options.
        cache: directory for findings; None where records are left out.
    """

    records: Records
    broken: list[Problem]
    path: AnswerPath | None
    cache: Path | None

    @property
    def identity(self) -> str:
        """The same for two ways only if findings are."""
        return "options" if self.path is None else self.path.identity

    def check(self, records: Sequence[Record], metric: str) -> Findings:
        """The errors and warnings of these records."""
        if self.path is None:
            return check_options(records, metric)
        return check_references(records, metric, self.path)


def _check_answers(report: TextReport, metric: str, answers: _Answers) -> None:
    try:
        findings = _findings(metric, answers)
    except CotbalError:  # no such metric: an error of the recipe, reported there
        return
    file = answers.records.source
    report.problems += [Problem(file, *problem) for problem in findings.problems]
    report.warnings += [f"{file}: {warning}" for warning in findings.warnings]


def _findings(metric: str, answers: _Answers) -> Findings:
    """What `check` finds, from the cache where nothing has changed since."""
    if answers.cache is None:
        left_out = {problem.number for problem in answers.broken}
        sound = [record for record in answers.records if record.number not in left_out]
        return answers.check(sound, metric)
    code = code_digest(load_metric(metric), references, options)
    key = f"{answers.records.digest} {code} {answers.identity}"
    file = answers.cache / f"{hashlib.sha256(key.encode()).hexdigest()}.references.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Findings(tuple(map(tuple, content["problems"])), tuple(content["warnings"]))
    except (OSError, ValueError, KeyError, TypeError):  # not there, or broken
        findings = answers.check(list(answers.records), metric)
        write_json(file, asdict(findings))
        return findings
