"""Questions whose answer is chosen among options: a row per option, or every question once and what
each of its options adds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace

from cotbal.data.batches.collate import Batch, Collator, Row
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
    rows: list[Row] = []
    for prompt in asked:
        rows += option_rows(prompt.row)
    return whole.training(rows)


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
    (asked,) = collator.unexpanded([prompt.text])
    behind = _end_of_images(asked, collator.placeholder)
    rows: list[list[int]] = []
    starts: list[int] = []
    for row in option_rows(prompt.row):
        ids, ranges = collator.plain(row)
        if ids[:behind] != asked[:behind] or len(ranges) != 1:
            return None
        start, stop = ranges[0]
        rows.append(ids[:stop])
        starts.append(start)
    border = min(_shared(rows), *starts) - 1
    if border <= behind:
        return None
    options: list[Continuation] = []
    for ids, start in zip(rows, starts, strict=True):
        ignored = [IGNORED] * (start - border - 1)
        options.append(Continuation(ids[border:-1], ignored + ids[start:]))
    return rows[0][behind:border], options


def _end_of_images(ids: list[int], placeholder: int) -> int:
    if placeholder not in ids:
        return 0
    return len(ids) - ids[::-1].index(placeholder)


def _shared(rows: Sequence[Sequence[int]]) -> int:
    """Number of tokens with which all rows begin."""
    count = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count
