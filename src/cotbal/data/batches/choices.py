"""Questions whose answer is chosen among options: a row per option, or every question once and what
each of its options adds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import takewhile

from cotbal.data.batches.collate import Batch, Collator, Range, Row
from cotbal.data.batches.prefixes import Group, Prefixed, Prompt, prefixed
from cotbal.data.reading.record import Turn
from cotbal.loss import IGNORED


@dataclass(frozen=True)
class Continuation:
    """An option behind its question.

    Attributes:
        ids: inputs of the model, from the last token that all options of the question share.
        labels: the token that follows each of them; IGNORED where it is not part of the answer.
    """

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Offered:
    """Model inputs of questions that are computed once for all their options.

    Attributes:
        questions: their images, and as suffixes what all options of a question share.
        options: of every question.
    """

    questions: Prefixed
    options: list[list[Continuation]]


def by_options(asked: Sequence[Prompt], size: int) -> list[list[Prompt]]:
    """Questions in their order, together as long as they have at most `size` options."""
    shares: list[list[Prompt]] = []
    room = 0
    for prompt in asked:
        room -= len(prompt.row.options)
        if room < 0:
            shares.append([])
            room = size - len(prompt.row.options)
        shares[-1].append(prompt)
    return shares


def option_batch(collator: Collator, asked: Sequence[Prompt]) -> Batch:
    """A row per option, which is its answer, with labels as in training; nothing is cut off."""
    whole = copy(collator)
    whole.max_length = sys.maxsize
    return whole.training([row for prompt in asked for row in option_rows(prompt.row)])


def option_rows(row: Row) -> Iterator[Row]:
    """The row once per option, which is its answer."""
    record = row.record
    for option in row.options:
        turns = (*record.turns[:-1], Turn("assistant", option))
        yield replace(row, record=replace(record, turns=turns))


def offered(collator: Collator, wave: Sequence[Group]) -> Offered | None:
    """The model inputs of a wave; None where the tokens cannot be taken apart.

    Raises:
        DataError: an image is broken, or the processor rejects it.
    """
    batch = prefixed(collator, wave)
    if batch is None:
        return None
    stems: list[list[int]] = []
    options: list[list[Continuation]] = []
    for prompt in batch.prompts:
        parted = _parted(collator, prompt)
        if parted is None:
            return None
        stems.append(parted[0])
        options.append(parted[1])
    return Offered(replace(batch, suffixes=stems), options)


def _parted(collator: Collator, prompt: Prompt) -> tuple[list[int], list[Continuation]] | None:
    """Tokens behind the images that all options share, but for the last one, and the options."""
    rows = [collator.plain(row) for row in option_rows(prompt.row)]
    (asked,) = collator.unexpanded([prompt.text])
    head = asked[: _end_of_images(asked, collator.placeholder)]
    behind = len(head)
    if any(ids[:behind] != head or len(ranges) != 1 for ids, ranges in rows):
        return None
    shared = _shared([ids for ids, _ in rows])
    border = min(shared, *(ranges[0][0] for _, ranges in rows)) - 1
    if border <= behind:
        return None
    stem = rows[0][0][behind:border]
    return stem, [_continuation(ids, ranges[0], border) for ids, ranges in rows]


def _end_of_images(ids: list[int], placeholder: int) -> int:
    return len(ids) - ids[::-1].index(placeholder) if placeholder in ids else 0


def _shared(rows: Sequence[Sequence[int]]) -> int:
    """Number of tokens with which all rows begin."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))


def _continuation(ids: list[int], answer: Range, border: int) -> Continuation:
    start, stop = answer
    ignored = [IGNORED] * (start - border - 1)
    return Continuation(ids[border : stop - 1], [*ignored, *ids[start:stop]])
