"""Warnings about keys of records that nothing reads, once per key and task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cotbal.data.records import Records
from cotbal.errors import CotbalError
from cotbal.recipe.mixture import Task
from cotbal.scores.measure import reads_details


@dataclass(frozen=True, slots=True)
class Unread:
    """How often a key is in the records of a file: their number, and the number of the first."""

    count: int
    first: int


def unread_in(records: Records, task: Task, split: str) -> dict[str, Unread]:
    """Key -> how often it is in the records of one split without being read.

    A metric that is given the details of a sample may read every key of an evaluation record.
    """
    given = False
    if split != "train":
        with suppress(CotbalError):  # a metric that does not exist is an error of the recipe
            given = any(map(reads_details, task.metrics_of(split)))
    found: dict[str, Unread] = {}
    for number, unread, details in records.unread():
        for key in unread:
            if not (given and key in details):
                before = found.get(key, Unread(0, number))
                found[key] = Unread(before.count + 1, before.first)
    return found


def warnings_of_unread(
    task: Task, files: Mapping[str, Path], unread: Mapping[str, Mapping[str, Unread]]
) -> Iterator[str]:
    """One line for each key.

    Args:
        files: split -> file.
        unread: split -> what `unread_in` gives for it.
    """
    for key in dict.fromkeys(key for split in files for key in unread[split]):
        splits = [split for split in files if key in unread[split]]
        count = sum(unread[split][key].count for split in splits)
        first = unread[splits[0]][key].first
        yield (
            f"task {task.name}: nothing reads the key `{key}` of {count:,} records; the first is"
            f" {files[splits[0]]}, record {first}. What the model should see or learn belongs into"
            " the turns"
        )
