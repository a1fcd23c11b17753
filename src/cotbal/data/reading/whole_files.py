"""Errors that only the records of a file together show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cotbal.data.reading.record import Problem

if TYPE_CHECKING:
    from cotbal.data.reading.records import Records


def problems_of_whole(records: Records) -> list[Problem]:
    """Ids that are repeated, and a file without anything to learn."""
    return [*_repeated_ids(records), *_nothing_learnt(records)]


def _repeated_ids(records: Records) -> Iterator[Problem]:
    """An error for every id that was there before, found by sorted hashes: eight bytes per record
    instead of its text.
    """
    hashes = np.fromiter(map(hash, records.ids()), np.int64, len(records))
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    suspects = np.flatnonzero(ordered[1:] == ordered[:-1])
    pairs = np.concatenate([order[suspects], order[suspects + 1]])
    first: dict[str, int] = {}
    for index in np.unique(pairs):
        record = records[index]
        if record.id in first:
            yield Problem(
                records.source,
                record.number,
                f"id {record.id!r} is already the id of record {first[record.id]}",
                "repeated-id",
            )
        first.setdefault(record.id, record.number)


def _nothing_learnt(records: Records) -> Iterator[Problem]:
    """An error of a file whose every answer is marked to carry no loss."""
    if len(records) and not any(record.learnt for record in records):
        yield Problem(
            records.source,
            0,
            "expected at least one answer that carries loss; all are marked, such as loss: false",
            "nothing-trained",
        )
