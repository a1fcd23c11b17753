"""Records and images that are trained on and evaluated on, in whichever tasks of the mixture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from cotbal.data.reading.record import IMAGE
from cotbal.data.reading.records import Records

TRAIN = "train"
_MIX = np.uint64(0x9E3779B97F4A7C15)  # an odd number without a pattern

Marks = tuple[np.ndarray, np.ndarray]  # values, and the place of the record that has each


@dataclass(frozen=True)
class Keys:
    """What identifies the records of one file, in eight bytes each.

    Attributes:
        numbers, ids: number of every record, and a hash of its id; shape [record].
        images, counts: places of the images in the table of names, one record after the other, and
            how many a record has; shapes [image], [record].
        texts, owners: a hash of every question, and the place of its record; shape [question].
    """

    numbers: np.ndarray
    ids: np.ndarray
    images: np.ndarray
    counts: np.ndarray
    texts: np.ndarray
    owners: np.ndarray


@dataclass(frozen=True)
class FileKeys:
    """A file of a task with its keys."""

    task: str
    split: str
    path: Path
    keys: Keys


def keys_of(records: Records, places: Mapping[str, int]) -> Keys:
    """The keys of a file; `places` is the table of the names of images."""
    stem, file = records.source.stem, records.source
    numbers, ids, counts = (np.zeros(len(records), np.int64) for _ in range(3))
    images = np.zeros(int(records.image_counts().sum()), np.int64)
    texts, owners = (np.zeros(int(records.answers().sum()), np.int64) for _ in range(2))
    image = question = 0
    for place, record in enumerate(records):
        numbers[place], counts[place] = record.number, len(record.images)
        # Two files of one name make up the same ids; that does not identify their records.
        made_up = record.id == f"{stem}_{record.number}"
        ids[place] = hash((file if made_up else None, record.id))
        for name in record.images:
            images[image] = places[name]
            image += 1
        for turn in record.turns:
            if turn.role == "user":
                texts[question], owners[question] = hash(_bare(turn.text)), place
                question += 1
    return Keys(numbers, ids, images, counts, texts, owners)


def _bare(text: str) -> str:
    return text.replace(IMAGE, "").strip()


def leaks(files: Sequence[FileKeys], same: np.ndarray) -> Iterator[str]:
    """A sentence for every evaluation set that shares records or images with training sets, and
    for every two splits of a task that share ids, or two evaluation sets that share questions.

    Args:
        same: for every name in the table of images the place of the first name of the same image.
    """
    training = [file for file in files if file.split == TRAIN]
    asked = [_Index(file, _questions(file.keys, same)) for file in training]
    shown = [_Index(file, _images(file.keys, same)) for file in training]
    for file in files:
        if file.split != TRAIN:
            same_questions = _Overlap(file, _questions(file.keys, same), asked)
            same_images = _Overlap(file, _images(file.keys, same), shown)
            same_images.without(same_questions)
            yield from same_questions.sentence("have the images and question of a training record")
            yield from same_images.sentence("ask other questions about images of training records")
    for earlier, later in combinations(files, 2):
        if earlier.task == later.task:
            ids = _Overlap(later, _ids(later.keys), [_Index(earlier, _ids(earlier.keys))])
            yield from ids.sentence(f"have the id of a record of {earlier.split}")
            if earlier.split != TRAIN:
                index = _Index(earlier, _questions(earlier.keys, same))
                both = _Overlap(later, _questions(later.keys, same), [index])
                yield from both.sentence(
                    f"have the images and question of a record of {earlier.split}"
                )


class _Index:
    """The marks of a file, sorted, with the number of the first record that has each."""

    def __init__(self, file: FileKeys, marks: Marks) -> None:
        values, owners = marks
        self.file = file
        self.values, first = np.unique(values, return_index=True)
        self.numbers = file.keys.numbers[owners[first]]

    def find(self, values: np.ndarray) -> np.ndarray:
        """For every value its place in `values`, or -1."""
        places = np.searchsorted(self.values, values)
        places[places == len(self.values)] = 0
        known = self.values[places] == values if len(self.values) else np.zeros(len(values), bool)
        return np.where(known, places, -1)


class _Overlap:
    """Records of a file that have a mark of other files."""

    def __init__(self, file: FileKeys, marks: Marks, indexes: Sequence[_Index]) -> None:
        values, owners = marks
        size = len(file.keys.numbers)
        self._file = file
        self._shared = np.zeros(size, bool)
        self._by_index: list[np.ndarray] = []
        self._indexes = indexes
        self._match = np.zeros((2, size), np.int64)  # index, and place in it
        for number, index in enumerate(indexes):
            places = index.find(values)
            hits = owners[places >= 0]
            of_index = np.zeros(size, bool)
            of_index[hits] = True
            self._match[:, hits] = np.stack([np.full(len(hits), number), places[places >= 0]])
            self._by_index.append(of_index)
            self._shared |= of_index

    def without(self, other: _Overlap) -> None:
        """Leave out the records that another overlap reports."""
        self._shared &= ~other._shared
        self._by_index = [each & self._shared for each in self._by_index]

    def sentence(self, what: str) -> Iterator[str]:
        """How many records, of which tasks, and the first of them, if there are any."""
        count = int(self._shared.sum())
        if not count:
            return
        first = int(np.flatnonzero(self._shared)[0])
        index, place = self._match[:, first]
        other = self._indexes[index]
        tasks = _listed(zip(self._indexes, self._by_index, strict=True), self._file.task)
        yield (
            f"task {self._file.task}: {count:,} of {len(self._shared):,} records of "
            f"{self._file.split} {what}{tasks}; the first is {self._file.path}, record "
            f"{self._file.keys.numbers[first]} (as {other.file.path}, record "
            f"{other.numbers[place]})"
        )


def _listed(counts: Iterable[tuple[_Index, np.ndarray]], own_task: str) -> str:
    """Records per task, unless all are of the task itself."""
    by_task = {index.file.task: int(records.sum()) for index, records in counts if records.any()}
    if set(by_task) == {own_task}:
        return ""
    return f" ({', '.join(f'task {task}: {count:,}' for task, count in by_task.items())})"


def _ids(keys: Keys) -> Marks:
    return keys.ids, np.arange(len(keys.ids))


def _images(keys: Keys, same: np.ndarray) -> Marks:
    return same[keys.images], np.repeat(np.arange(len(keys.counts)), keys.counts)


def _questions(keys: Keys, same: np.ndarray) -> Marks:
    """A number for every question together with the images of its record, and its record."""
    names = (same[keys.images] + 1).astype(np.uint64)
    ends = np.cumsum(keys.counts)
    starts = ends - keys.counts
    order = np.arange(len(names)) - np.repeat(starts, keys.counts)  # of the image in its record
    mixed = (names * _MIX) ^ (names >> np.uint64(7))
    mixed *= 2 * order.astype(np.uint64) + np.uint64(1)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    images = (sums[ends] - sums[starts]) * _MIX
    return (images[keys.owners] + keys.texts.view(np.uint64)).view(np.int64), keys.owners
