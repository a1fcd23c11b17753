"""Options of evaluation records that a task chooses among: whether an answer can be chosen, and
whether one of them is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cotbal.data.checks.references import Findings, failures, scores_of, short
from cotbal.data.checks.special_tokens import SpecialTokens, message_of
from cotbal.data.reading.conversations import OPTIONS
from cotbal.data.reading.record import IMAGE, Problem, Record
from cotbal.data.reading.records import Records
from cotbal.errors import DataError
from cotbal.scores.measure import given_by, problem_finder


def problems_of_options(records: Records, tokens: SpecialTokens) -> Iterator[Problem]:
    """Records without two options, and options that are empty or no plain text; the first error of
    every record.
    """
    for record in records:
        try:
            _need_options(record, tokens)
        except DataError as error:
            yield Problem.of(records.source, record.number, error)


def _need_options(record: Record, tokens: SpecialTokens) -> None:
    if len(record.options) < 2:
        raise DataError(
            f"{OPTIONS}: expected a list of at least two texts, because the task chooses its"
            f" answers among them; found {len(record.options)}",
            "missing-options",
        )
    for option in record.options:
        if not option:
            raise DataError(f"{OPTIONS}: expected texts; found an empty one", "empty-text")
        if IMAGE in option:
            raise DataError(
                f"{OPTIONS}: expected {IMAGE} only in a user's turn; found {short(option)}",
                "image-markers",
            )
        for token in tokens.of(option):
            if token in tokens.structure:
                raise DataError(f"{OPTIONS}: {message_of(token, option)}", "special-token")


def warnings_of_options(records: Records) -> Iterator[str]:
    """One line on records that offer the same option more than once."""
    repeated = [record for record in records if len(set(record.options)) < len(record.options)]
    if repeated:
        yield (
            f"{records.source}: {len(repeated):,} records offer the same option more than once; the"
            f" first is record {repeated[0].number}"
        )


def check_options(records: Sequence[Record], name: str) -> Findings:
    """An error for every record of which no option is right for the metric called `name`.

    Left out are records whose references the metric itself rejects (`problem_of`).

    Raises:
        CotbalError: there is no such metric.
    """
    find = problem_finder(name)
    sound = [record for record in records if find is None or not find(record.references)]
    if not sound or given_by(name):
        return Findings()
    problems: list[tuple[int, str, str]] = []
    try:
        scores_of(name, sound, [record.options[0] for record in sound])
        for record in sound:
            if not _has_right_option(record, name):
                problems.append(_unreachable(record, name))
    except Exception as error:  # a metric of a user's own may raise anything
        problems = list(failures(sound, name, error))
    return Findings(tuple(problems))


def _has_right_option(record: Record, name: str) -> bool:
    for option in record.options:
        if option in record.references:  # its score may depend on other answers of the file
            return True
        (score,) = scores_of(name, [record], [option])
        if score > 0:
            return True
    return False


def _unreachable(record: Record, name: str) -> tuple[int, str, str]:
    message = (
        f"{name}: expected an option that scores above 0; found none among"
        f" {short(list(record.options))}, with the reference {short(record.references[0])}"
    )
    return record.number, message, "unreachable-reference"
