"""Records and images that are trained on and evaluated on, in whichever tasks of the mixture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from cotbal.data.reading.record import IMAGE
from cotbal.data.reading.records import Records
from cotbal.recipe.mixture import TRAIN

_MIX = 0x1E3779B97F4A7C15  # an odd number without a pattern

Marks = tuple[np.ndarray, np.ndarray]  # values, and the index of the record that has each


@dataclass(frozen=True)
class Keys:
    """What identifies the records of one file of a task, in eight bytes each.

    Attributes:
        split: `train`, `validation` or the name of a test split.
        numbers, ids: number of every record, and a hash of its id; shape [record].
        images, counts: indices of the images in the table of names, record by record, and how many
            a record has; shapes [image], [record].
        texts, owners: a hash of every question, and the index of its record; shape [question].
    """

    task: str
    split: str
    path: Path
    numbers: np.ndarray
    ids: np.ndarray
    images: np.ndarray
    counts: np.ndarray
    texts: np.ndarray
    owners: np.ndarray


def keys_of(records: Records, task: str, split: str, places: Mapping[str, int]) -> Keys:
    """The keys of a file; `places` is the table of the names of images."""
    numbers = np.zeros(len(records), np.int64)
    ids = np.zeros_like(numbers)
    texts = np.zeros(int(records.answers().sum()), np.int64)
    owners = np.zeros_like(texts)
    question = 0
    for i, record in enumerate(records):
        numbers[i] = record.number
        # Two files of one name make up the same ids; that does not identify their records.
        made_up = record.id == f"{records.source.stem}_{record.number}"
        ids[i] = hash((records.source if made_up else None, record.id))
        for turn in record.turns:
            if turn.role == "user":
                texts[question] = hash(turn.text.replace(IMAGE, "").strip())
                owners[question] = i
                question += 1
    counts = records.image_counts().astype(np.int64)
    names = (places[name] for names in records.images() for name in names)
    images = np.fromiter(names, np.int64, counts.sum())
    path = records.source
    return Keys(task, split, path, numbers, ids, images, counts, texts, owners)


def leaks(files: Sequence[Keys], same: np.ndarray) -> Iterator[str]:
    """A sentence for every evaluation set that shares records or images with training sets, and
    for every two splits of a task that share ids, or two evaluation sets that share questions.

    Args:
        same: for every name in the table of images the index of the first name of the same image.
    """
    training = [file for file in files if file.split == TRAIN]
    asked = [_Index(file, _questions(file, same)) for file in training]
    shown = [_Index(file, _images(file, same)) for file in training]
    for file in files:
        if file.split != TRAIN:
            questions = _shared(file, _questions(file, same), asked)
            images = _shared(file, _images(file, same), shown)
            images[:, (questions >= 0).any(axis=0)] = -1  # reported already
            what = "have the images and question of a training record"
            yield from _sentence(file, questions, asked, what)
            what = "ask other questions about images of training records"
            yield from _sentence(file, images, shown, what)
    for earlier, later in combinations(files, 2):
        if earlier.task == later.task:
            yield from _leaks_between(earlier, later, same)


def _leaks_between(earlier: Keys, later: Keys, same: np.ndarray) -> Iterator[str]:
    ids = [_Index(earlier, _ids(earlier))]
    what = f"have the id of a record of {earlier.split}"
    yield from _sentence(later, _shared(later, _ids(later), ids), ids, what)
    if earlier.split != TRAIN:
        asked = [_Index(earlier, _questions(earlier, same))]
        what = f"have the images and question of a record of {earlier.split}"
        shared = _shared(later, _questions(later, same), asked)
        yield from _sentence(later, shared, asked, what)


class _Index:
    """The marks of a file, sorted, with the number of the first record that has each."""

    def __init__(self, file: Keys, marks: Marks) -> None:
        values, owners = marks
        self.file = file
        self.values, first = np.unique(values, return_index=True)
        self.numbers = file.numbers[owners[first]]

    def find(self, values: np.ndarray) -> np.ndarray:
        """For every value its index in `values`, or -1."""
        if not len(self.values):
            return np.full(len(values), -1)
        places = np.searchsorted(self.values, values)
        places[places == len(self.values)] = 0
        known = self.values[places] == values
        return np.where(known, places, -1)


def _shared(file: Keys, marks: Marks, indexes: Sequence[_Index]) -> np.ndarray:
    """Where each index has a mark of each record of `file`, or -1; shape [index, record]."""
    values, owners = marks
    shared = np.full((len(indexes), len(file.numbers)), -1)
    for row, index in zip(shared, indexes, strict=True):
        places = index.find(values)
        row[owners[places >= 0]] = places[places >= 0]
    return shared


def _sentence(
    file: Keys, shared: np.ndarray, indexes: Sequence[_Index], what: str
) -> Iterator[str]:
    """How many records, of which tasks, and the first of them, if there are any."""
    hits = shared >= 0
    records = np.asarray(hits.any(axis=0))
    if not records.any():
        return
    first = int(records.argmax())
    number = int(hits[:, first].argmax())
    index = indexes[number]
    tasks: dict[str, int] = {}
    for other, row in zip(indexes, hits, strict=True):
        if row.any():
            tasks[other.file.task] = int(row.sum())
    listed = ", ".join(f"task {task}: {count:,}" for task, count in tasks.items())
    of_tasks = "" if set(tasks) == {file.task} else f" ({listed})"
    found_in = index.numbers[shared[number, first]]
    yield (
        f"task {file.task}: {records.sum():,} of {len(records):,} records of {file.split} "
        f"{what}{of_tasks}; the first is {file.path}, record {file.numbers[first]} (as "
        f"{index.file.path}, record {found_in})"
    )


def _ids(keys: Keys) -> Marks:
    return keys.ids, np.arange(len(keys.ids))


def _images(keys: Keys, same: np.ndarray) -> Marks:
    records = np.arange(len(keys.counts))
    return same[keys.images], np.repeat(records, keys.counts)


def _questions(keys: Keys, same: np.ndarray) -> Marks:
    """A number for every question together with the images of its record, and its record."""
    names = same[keys.images].tolist()
    images = np.zeros(len(keys.counts), np.int64)
    start = 0
    for record, count in enumerate(keys.counts.tolist()):
        shown = tuple(names[start : start + count])
        images[record] = hash(shown)
        start += count
    return images[keys.owners] * _MIX + keys.texts, keys.owners
