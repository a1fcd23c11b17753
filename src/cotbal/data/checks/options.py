"""Options of evaluation records that a task chooses among: whether an answer can be chosen, and
whether one of them is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cotbal.data.checks.references import Findings, failures, scores_of, short
from cotbal.data.checks.special_tokens import SpecialTokens, message_of
from cotbal.data.reading.conversations import OPTIONS
from cotbal.data.reading.record import IMAGE, Problem, Record
from cotbal.data.reading.records import Records
from cotbal.scores.measure import given_by, load_metric, problem_finder


def problems_of_options(records: Records, tokens: SpecialTokens) -> Iterator[Problem]:
    """Records without two options, and options that are empty or no plain text; the first error of
    every record.
    """
    for record in records:
        problem = next(_problems(record, tokens), None)
        if problem is not None:
            yield Problem(records.source, record.number, f"{OPTIONS}: {problem[0]}", problem[1])


def _problems(record: Record, tokens: SpecialTokens) -> Iterator[tuple[str, str]]:
    """Message and code of every error."""
    if len(record.options) < 2:
        yield (
            "expected a list of at least two texts, because the task chooses its answers among"
            f" them; found {len(record.options)}",
            "missing-options",
        )
    for number, option in enumerate(record.options, 1):
        if not option:
            yield f"expected texts; found an empty one, option {number}", "empty-text"
        if IMAGE in option:
            yield f"expected {IMAGE} only in a user's turn; found it in {option!r}", "image-markers"
        for token in tokens.of(option):
            if token in tokens.structure:
                yield message_of(token, option), "special-token"


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
    if not sound or given_by(name) or float(load_metric(name).MAXIMUM) <= 0:
        return Findings()
    try:
        wrong = _without_right_option(sound, name)
    except Exception as error:  # a metric of a user's own may raise anything
        return Findings(tuple(failures(sound, name, error)))
    return Findings(tuple(_unreachable(record, name) for record in wrong))


def _unreachable(record: Record, name: str) -> tuple[int, str, str]:
    message = (
        f"{name}: expected an option that scores above 0; found none among"
        f" {short(list(record.options))}, with the reference {short(record.references[0])}"
    )
    return record.number, message, "unreachable-reference"


def _without_right_option(records: Sequence[Record], name: str) -> list[Record]:
    """Records whose options all score 0, together with the others of the file and alone: a score
    may depend on the other answers.
    """
    best = np.zeros(len(records))
    for rank in range(max(len(record.options) for record in records)):
        having = [i for i, record in enumerate(records) if rank < len(record.options)]
        offering = [records[i] for i in having]
        scores = scores_of(name, offering, [record.options[rank] for record in offering])
        best[having] = np.maximum(best[having], scores)
    left = [record for record, score in zip(records, best.tolist(), strict=True) if score <= 0]
    return [record for record in left if not _has_right_option(record, name)]


def _has_right_option(record: Record, name: str) -> bool:
    return any(scores_of(name, [record], [option])[0] > 0 for option in record.options)
