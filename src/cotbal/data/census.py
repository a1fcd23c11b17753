"""What one file of records holds, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cotbal.data.conversations import IMAGE, Fault, Record
from cotbal.data.pictures import faults_of_pictures
from cotbal.data.records import Records, sound_records
from cotbal.data.unread_report import Unread, unread_in
from cotbal.errors import CotbalError
from cotbal.measure import FindFault, fault_finder
from cotbal.mixture import Task

Progress = Callable[[str, int, int], None]
CountTokens = Callable[[Record], int]

_STEP = 500  # records between two words of progress


@dataclass(frozen=True)
class Settings:
    """How files are read.

    Attributes:
        images: root of relative picture names.
        cache: directory of converted records.
        drop: whether a record without its pictures is left out, instead of being a fault.
        decode: whether pictures are decoded, instead of only looked for.
        count_tokens: number of tokens of a record that carry loss, or None.
        progress: is told what is being read, and how much of how much is done.
        pictures: fault of every picture seen so far, or None; tasks often share pictures.
    """

    images: Path
    cache: Path
    drop: bool
    decode: bool
    count_tokens: CountTokens | None
    progress: Progress
    pictures: dict[str, str | None] = field(default_factory=dict)


@dataclass
class Census:
    """Counts of the sound records of one file.

    Attributes:
        records, turns: conversations, and pairs of question and answer in them.
        pictures, missing, broken: distinct pictures; those that are not there; those that cannot be
            read.
        dropped: a line for each record that is left out because of its pictures.
        characters, tokens: length of all answers; tokens is None when nobody counts them.
        faults: by number of the record.
        ids, questions: a hash for each record, and for each question together with its pictures.
        numbers: number of each record.
        unread: keys that nothing reads.
    """

    records: int
    turns: int = 0
    pictures: int = 0
    missing: int = 0
    broken: int = 0
    characters: int = 0
    tokens: int | None = None
    dropped: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    questions: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    unread: Mapping[str, Unread] = field(default_factory=dict)


def take_census(task: Task, split: str, path: Path, settings: Settings) -> Census:
    """Read every record and picture of one file of `task`; a split other than `train` holds
    evaluation records.
    """
    faults: list[Fault] = []
    with sound_records(path, settings.cache, split != "train", faults.append) as records:
        census = Census(len(records), faults=faults, unread=unread_in(records, task, split))
        names = dict.fromkeys(name for images in records.images() for name in images)
        _look_at_pictures(names, f"{task.name} {split}: pictures", settings)
        _count_pictures(census, names, settings)
        _hash_keys(census, records)
        finders = [] if split == "train" else list(_finders(task.metrics_of(split)))
        for index, record in enumerate(records):
            if index % _STEP == 0:
                settings.progress(f"{task.name} {split}: records", index, len(records))
            _count_record(census, record, settings.count_tokens)
            _judge_record(census, record, path, task, settings)
            census.faults += [
                Fault(path, record.number, said)
                for find in finders
                if (said := find(record.references))
            ]
        settings.progress(f"{task.name} {split}: records", len(records), len(records))
    faults.sort(key=lambda fault: fault.number)
    return census


def _finders(metrics: Sequence[str]) -> Iterator[FindFault]:
    for metric in metrics:
        with suppress(
            CotbalError
        ):  # that there is no such metric is a fault of the recipe, and said there
            find = fault_finder(metric)
            if find is not None:
                yield find


def _look_at_pictures(names: dict[str, None], what: str, settings: Settings) -> None:
    new = [name for name in names if name not in settings.pictures]
    found = faults_of_pictures(
        settings.images, new, settings.decode, lambda done: settings.progress(what, done, len(new))
    )
    settings.pictures.update((name, found.get(name)) for name in new)


def _count_pictures(census: Census, names: dict[str, None], settings: Settings) -> None:
    faults = [fault for name in names if (fault := settings.pictures[name]) is not None]
    census.pictures = len(names)
    census.missing = sum(fault.startswith("missing") for fault in faults)
    census.broken = len(faults) - census.missing


def _hash_keys(census: Census, records: Records) -> None:
    """Hashes by which another split is searched for the same records; eight bytes each."""
    stem, file = records.source.stem, records.source
    ids, questions, numbers = [], [], []
    for record in records:
        # Two files of one name make up the same ids; that says nothing about their records.
        ids.append(hash((file if record.id == f"{stem}_{record.number}" else None, record.id)))
        asked = (turn.text for turn in record.turns if turn.role == "user")
        questions += [hash((record.images, text.replace(IMAGE, "").strip())) for text in asked]
        numbers.append(record.number)
    census.ids, census.questions, census.numbers = (
        np.array(keys, np.int64) for keys in (ids, questions, numbers)
    )


def _count_record(census: Census, record: Record, count_tokens: CountTokens | None) -> None:
    answers = [turn.text for turn in record.turns if turn.role == "assistant"]
    census.turns += len(answers)
    census.characters += sum(map(len, answers))
    if count_tokens is not None:
        census.tokens = (census.tokens or 0) + count_tokens(record)


def _judge_record(
    census: Census, record: Record, path: Path, task: Task, settings: Settings
) -> None:
    if record.task is not None and record.task != task.name:
        message = f"task: expected {task.name!r}, as in the recipe; found {record.task!r}"
        census.faults.append(Fault(path, record.number, message))
    bad = [fault for name in record.images if (fault := settings.pictures[name]) is not None]
    found = [Fault(path, record.number, fault) for fault in bad]
    if not settings.drop:
        census.faults += found
    elif found:
        census.dropped.append(str(found[0]))
