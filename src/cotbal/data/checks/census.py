"""What one file of records holds, and everything that is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

from cotbal.data.batches.lengths import Meter, Truncation
from cotbal.data.checks.leaks import TRAIN, Keys, keys_of
from cotbal.data.reading.images import problems_of_images
from cotbal.data.reading.record import Problem, Record
from cotbal.data.reading.records import Records, sound_records
from cotbal.errors import CotbalError
from cotbal.recipe.mixture import Task
from cotbal.scores.measure import FindProblem, problem_finder, reads_details

Progress = Callable[[str, int, int], None]

_STEP = 500  # records that are measured together, and between two reports of progress


@dataclass(frozen=True)
class Settings:
    """How files are read.

    Attributes:
        images: root of relative image names.
        cache: directory of converted records.
        drop: whether a record without its images is left out, instead of being an error.
        decode: whether images are decoded, instead of only looked for.
        meter: measures tokens, or None.
        progress: is called with what is being read, and how much of how much is done.
        places: the table of image names seen so far, which tasks often share, with their places.
        image_errors: what is wrong with an image of the table, if anything is.
    """

    images: Path
    cache: Path
    drop: bool
    decode: bool
    meter: Meter | None
    progress: Progress
    places: dict[str, int] = field(default_factory=dict)
    image_problems: dict[str, str] = field(default_factory=dict)


@dataclass
class Census:
    """Counts of the sound records of one file.

    Attributes:
        records, turns: conversations, and pairs of question and answer in them.
        images, missing, broken, rejected: distinct images; those that are not there; those that
            cannot be read; those that the model's processor cannot process.
        dropped: a line for each record that is left out because of its images.
        characters: length of all answers.
        truncation: tokens of the answers, and what `max_length` cuts off; of no records when
            nothing measures them.
        errors: by number of the record.
        keys: what identifies the records; None when there are none.
        unread: keys that nothing reads.
    """

    records: int
    turns: int = 0
    images: int = 0
    missing: int = 0
    broken: int = 0
    rejected: int = 0
    characters: int = 0
    truncation: Truncation = field(default_factory=Truncation)
    dropped: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    keys: Keys | None = None
    unread: Mapping[str, Unread] = field(default_factory=dict)


def take_census(task: Task, split: str, path: Path, settings: Settings) -> Census:
    """Read every record and image of one file of `task`; a split other than `train` holds
    evaluation records.
    """
    problems: list[Problem] = []
    with sound_records(path, settings.cache, split != "train", problems.append) as records:
        census = Census(len(records), problems=problems, unread=unread_in(records, task, split))
        names = dict.fromkeys(name for images in records.images() for name in images)
        _look_at_images(names, f"{task.name} {split}: images", settings)
        _count_images(census, names, settings)
        census.keys = keys_of(records, settings.places)
        finders = [] if split == TRAIN else list(_finders(task.metrics_of(split)))
        rows, done = iter(records), 0
        while chunk := list(islice(rows, _STEP)):
            settings.progress(f"{task.name} {split}: records", done, len(records))
            for record in chunk:
                _count_record(census, record)
                _judge_record(census, record, path, task, settings)
                census.problems += [
                    Problem(path, record.number, message)
                    for find in finders
                    if (message := find(record.references))
                ]
            _measure(census, chunk, path, task, split, settings)
            done += len(chunk)
        settings.progress(f"{task.name} {split}: records", len(records), len(records))
    problems.sort(key=lambda problem: problem.number)
    return census


def _finders(metrics: Sequence[str]) -> Iterator[FindProblem]:
    for metric in metrics:
        with suppress(
            CotbalError
        ):  # that there is no such metric is an error of the recipe, and said there
            find = problem_finder(metric)
            if find is not None:
                yield find


def _look_at_images(names: dict[str, None], what: str, settings: Settings) -> None:
    new = [name for name in names if name not in settings.places]
    settings.places.update(zip(new, count(len(settings.places)), strict=False))
    settings.image_problems.update(
        problems_of_images(
            settings.images,
            new,
            settings.decode,
            None if settings.meter is None else settings.meter.rejected,
            lambda done: settings.progress(what, done, len(new)),
        )
    )


def _count_images(census: Census, names: dict[str, None], settings: Settings) -> None:
    problems = [settings.image_problems[name] for name in names if name in settings.image_problems]
    kinds = Counter(problem.partition(" ")[0] for problem in problems)
    census.images = len(names)
    census.missing, census.rejected = kinds["missing"], kinds["rejected"]
    census.broken = len(problems) - census.missing - census.rejected


def _count_record(census: Census, record: Record) -> None:
    answers = [turn.text for turn in record.turns if turn.role == "assistant"]
    census.turns += len(answers)
    census.characters += sum(map(len, answers))


def _judge_record(
    census: Census, record: Record, path: Path, task: Task, settings: Settings
) -> None:
    if record.task is not None and record.task != task.name:
        message = f"task: expected {task.name!r}, as in the recipe; found {record.task!r}"
        census.problems.append(Problem(path, record.number, message))
    found = [
        Problem(path, record.number, settings.image_problems[name])
        for name in record.images
        if name in settings.image_problems
    ]
    if not settings.drop:
        census.problems += found
    elif found:
        census.dropped.append(str(found[0]))


def _measure(
    census: Census, chunk: list[Record], path: Path, task: Task, split: str, settings: Settings
) -> None:
    """Tokens of the records whose images are sound; `max_length` cuts training records alone."""
    if settings.meter is None:
        return
    broken = settings.image_problems.keys()
    sound = [record for record in chunk if broken.isdisjoint(record.images)]
    items = [(record, task.instruction) for record in sound]
    lengths = settings.meter.lengths(items, split == TRAIN)
    for record, length in zip(sound, lengths, strict=True):
        if isinstance(length, str):
            census.problems.append(Problem(path, record.number, length))
        else:
            census.truncation.add(record.number, length)


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
