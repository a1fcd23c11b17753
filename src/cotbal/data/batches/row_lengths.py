"""Lengths of rows as the collator makes them for training, without making most of them.

`measuring` does so for a process without PyTorch. Messages are pickles: settings first, then
questions on the standard input, each answered on the standard output. It ends with its input.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from pathlib import Path

from cotbal.data.batches.collate import Collator, RejectedImages, Row
from cotbal.data.batches.lengths import Item, Length
from cotbal.data.batches.processors import load_processor
from cotbal.data.batches.questions import collator_for
from cotbal.data.reading.images import Size, resolve, size_of
from cotbal.data.reading.record import IMAGE, Record, Turn
from cotbal.errors import CotbalError, DataError
from cotbal.loss import IGNORED

_SLACK = 4  # tokens per image that its neighbours may add or save
_KEPT = 100_000  # combinations of sizes whose lengths are remembered


class RowLengths:
    """Lengths of rows as `collator` makes them for training, without making most of them.

    How many tokens images become depends on their sizes, so one row is made for every combination
    of sizes, and a row is tokenised with one placeholder per image. What is next to an image may
    count one token more or less (Idefics 2), so a row that may exceed `max_length` is made.
    """

    def __init__(self, collator: Collator) -> None:
        self._collator = collator
        self._whole = copy(collator)
        self._whole.max_length = sys.maxsize
        self._growth: dict[tuple[Size, ...], int | DataError] = {}

    def lengths(self, items: Sequence[Item], cut: bool = True) -> list[Length | CotbalError]:
        """The length or the error of every record; `cut` applies `max_length`."""
        collator = self._collator if cut else self._whole
        rows = (Row(record, "", instruction) for record, instruction in items)
        return [self._try_length(row, collator) for row in rows]

    def rejected(self, names: Sequence[str]) -> dict[str, str]:
        """Images that the processor cannot process, with the reason."""
        reasons = {}
        for name in names:
            try:
                self._added((name,))
            except RejectedImages as error:
                reasons[name] = str(error).removeprefix(_WHERE)
            except DataError:
                pass  # missing or broken, which is found where images are opened
        return reasons

    def _try_length(self, row: Row, collator: Collator) -> Length | CotbalError:
        try:
            return self._length(row, collator)
        except CotbalError as error:
            where = f"record {row.record.number} ({row.record.id}): "
            message = str(error).removeprefix(where).removeprefix(_WHERE)
            return DataError(message, error.code)  # of a class that needs no PyTorch

    def _length(self, row: Row, collator: Collator) -> Length:
        ids, ranges = collator.plain(row)
        images, limit = row.record.images, collator.max_length
        length = len(ids) + (self._added(images) if images else 0)
        valid = sum(stop - start for start, stop in ranges)
        if length + _SLACK * len(images) <= limit:
            return Length(valid, valid, length)
        if not images:
            kept = 0
            for start, stop in ranges:
                kept += max(0, min(stop, limit) - start)
            return Length(valid, kept, length)
        length = self._whole.training([row])["input_ids"].shape[1]
        kept = int((collator.training([row])["labels"] != IGNORED).sum())
        return Length(valid, kept, length)

    def _added(self, names: tuple[str, ...]) -> int:
        """Tokens of these images beyond their placeholders.

        Raises:
            DataError: an image is broken, or the processor rejects it.
        """
        sizes = tuple(size_of(resolve(self._collator.images, name)) for name in names)
        if sizes not in self._growth:
            if len(self._growth) >= _KEPT:
                self._growth.clear()
            self._growth[sizes] = self._measured(names)
        growth = self._growth[sizes]
        if isinstance(growth, DataError):
            raise growth
        return growth

    def _measured(self, names: tuple[str, ...]) -> int | DataError:
        row = Row(replace(_EXAMPLE, images=names, turns=_turns(len(names))), "", None)
        try:
            length = self._whole.training([row])["input_ids"].shape[1]
        except RejectedImages as error:  # its traceback would keep the batch in memory
            return RejectedImages(str(error))
        except DataError as error:
            return DataError(str(error), error.code)
        return length - len(self._whole.plain(row)[0])


_EXAMPLE = Record("image", None, (), (), ("answer",), 0)
_WHERE = f"record {_EXAMPLE.number} ({_EXAMPLE.id}): "


def _turns(images: int) -> tuple[Turn, ...]:
    return Turn("user", f"{IMAGE}\n" * images + "question"), Turn("assistant", "answer")


def answer_questions() -> None:
    """Answer questions until there are no more."""
    questions, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no reply
    lengths = _load(*pickle.load(questions))
    with suppress(EOFError):
        while True:
            method, *values = pickle.load(questions)
            failed = isinstance(lengths, CotbalError)
            reply = lengths if failed else getattr(lengths, method)(*values)
            pickle.dump(reply, replies)
            replies.flush()


def _load(
    checkpoint: str, remote_code: bool, images: Path, max_length: int
) -> RowLengths | CotbalError:
    try:
        processor = load_processor(checkpoint, remote_code)
        return RowLengths(collator_for(processor, images, max_length))
    except CotbalError as error:
        return CotbalError(str(error), error.code)
    except (OSError, ValueError, KeyError) as error:
        return CotbalError(str(error), "broken-checkpoint")
