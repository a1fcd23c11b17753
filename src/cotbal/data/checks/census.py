"""What one file of records holds, and all its errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

from cotbal.data.batches.lengths import Length, Meter, Truncation
from cotbal.data.checks.leaks import Keys, keys_of
from cotbal.data.reading.conversations import OPTIONS
from cotbal.data.reading.images import problems_of_images
from cotbal.data.reading.record import Problem, Record
from cotbal.data.reading.records import Records, sound_records
from cotbal.errors import CotbalError, DataError
from cotbal.recipe.mixture import TRAIN, Task
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import portion_size
from cotbal.scores.measure import FindProblem, problem_finder, reads_details

Progress = Callable[[str, int, int], None]  # what is being read, and how much of how much is done

_STEP = 500  # records that are measured together, and between two reports of progress


@dataclass(frozen=True)
class Settings:
    """How files are read.

    Attributes:
        cache: directory of converted records.
        decode: whether images are decoded, instead of only looked for.
        meter: measures tokens, or None.
        places: image name -> its index in the table of all names, which tasks often share.
        image_problems: errors of images in the table.
    """

    recipe: Recipe
    cache: Path
    decode: bool
    meter: Meter | None
    progress: Progress
    places: dict[str, int] = field(default_factory=dict)
    image_problems: dict[str, DataError] = field(default_factory=dict)


@dataclass
class SplitReport:
    """What one file of records holds; only records without an error of their own are counted.

    Attributes:
        split: `train`, `validation` or the name of a test split.
        records, turns: conversations, and pairs of question and answer in them.
        images: distinct images, of which `usable` are good, `missing` are not there, `broken`
            cannot be read and `rejected` cannot be processed by the model's processor.
        dropped: records that `on_missing_image: drop` leaves out.
        answer_characters: characters in all answers.
        valid_tokens: tokens of the answers, which carry loss in training; None without a tokenizer.
        trained_tokens: of these, the ones before `model.max_length`; None for all but `train`.
        mini: records in the mini portion; None for all but the train split of a balanced task.
    """

    task: str
    split: str
    file: str
    records: int = 0
    turns: int = 0
    images: int = 0
    usable: int = 0
    missing: int = 0
    broken: int = 0
    rejected: int = 0
    dropped: int = 0
    answer_characters: int = 0
    valid_tokens: int | None = None
    trained_tokens: int | None = None
    mini: int | None = None


@dataclass(frozen=True, slots=True)
class Unread:
    """How often a key is in the records of a file, and the number of the first of them."""

    count: int
    first: int


@dataclass
class Census:
    """One file of records.

    Attributes:
        truncation: tokens of the answers, and what `max_length` cuts off; of no records when
            nothing measures them.
        dropped: the errors of records that are left out because of their images.
        keys: what identifies the records.
        unread: keys that nothing reads.
    """

    report: SplitReport
    problems: list[Problem]
    keys: Keys
    unread: Mapping[str, Unread]
    truncation: Truncation = field(default_factory=Truncation)
    dropped: list[Problem] = field(default_factory=list)


def take_census(task: Task, split: str, settings: Settings) -> Census:
    """Read every record and image of one file of `task`; a split other than `train` holds
    evaluation records.
    """
    path = task.files[split]
    report = SplitReport(task.name, split, str(path))
    with sound_records(path, settings.cache, split != TRAIN) as (records, problems):
        _count_images(report, records, settings)
        keys = keys_of(records, task.name, split, settings.places)
        census = Census(report, problems, keys, _unread(records, task, split))
        finders = [] if split == TRAIN else list(_finders(task, split))
        rows = iter(records)
        what = f"{task.name} {split}: records"
        while chunk := list(islice(rows, _STEP)):
            settings.progress(what, report.records, len(records))
            for record in chunk:
                _count_record(census, record, task, settings)
                messages = filter(None, (find(record.references) for find in finders))
                problems.extend(
                    Problem(path, record.number, message, "invalid-reference")
                    for message in messages
                )
            _measure(census, chunk, task, settings)
        settings.progress(what, len(records), len(records))
    report.dropped = len(census.dropped)
    if split == TRAIN and task.balanced:
        kept = report.records - report.dropped
        report.mini = portion_size(kept, settings.recipe.file.portions.mini)
    if census.truncation.records:
        report.valid_tokens = census.truncation.valid
        report.trained_tokens = census.truncation.kept if split == TRAIN else None
    problems.sort(key=lambda problem: problem.number)
    return census


def _finders(task: Task, split: str) -> Iterator[FindProblem]:
    for metric in task.metrics_of(split):
        with suppress(CotbalError):  # an unknown metric is an error of the recipe
            find = problem_finder(metric)
            if find is not None:
                yield find


def _unread(records: Records, task: Task, split: str) -> dict[str, Unread]:
    """Keys that nothing reads; a metric that receives the details of a sample may read each."""
    given = False
    if split != TRAIN:
        with suppress(CotbalError):
            given = any(map(reads_details, task.metrics_of(split)))
    unread: dict[str, Unread] = {}
    for number, keys, details in records.unread():
        for key in keys:
            is_read = (given and key in details) or (task.choose and key == OPTIONS)
            if not is_read:
                before = unread.get(key, Unread(0, number))
                unread[key] = Unread(before.count + 1, before.first)
    return unread


def _count_images(report: SplitReport, records: Records, settings: Settings) -> None:
    names = records.image_names()
    new = [name for name in names if name not in settings.places]
    recipe = settings.recipe
    settings.places.update(zip(new, count(len(settings.places)), strict=False))
    settings.image_problems.update(
        problems_of_images(
            recipe.images,
            new,
            settings.decode,
            None if settings.meter is None else settings.meter.rejected,
            lambda done: settings.progress(f"{report.task} {report.split}: images", done, len(new)),
            (recipe.images, records.image_cache) if recipe.confined else None,
        )
    )
    errors = settings.image_problems
    codes = Counter(errors[name].code for name in names if name in errors)
    report.images = len(names)
    report.usable = len(names) - codes.total()
    report.missing = codes["missing-image"] + codes["outside-image"]
    report.broken = codes["broken-image"]
    report.rejected = codes["rejected-image"]


def _count_record(census: Census, record: Record, task: Task, settings: Settings) -> None:
    path = task.files[census.report.split]
    answers = [turn.text for turn in record.turns if turn.role == "assistant"]
    census.report.records += 1
    census.report.turns += len(answers)
    census.report.answer_characters += sum(map(len, answers))
    if record.task not in (None, task.name):
        message = f"task: expected {task.name!r}, as in the recipe; found {record.task!r}"
        census.problems.append(Problem(path, record.number, message, "wrong-task"))
    errors = settings.image_problems
    problems = [
        Problem.of(path, record.number, errors[name]) for name in record.images if name in errors
    ]
    if settings.recipe.file.on_missing_image == "drop":
        census.dropped += problems[:1]
    else:
        census.problems += problems


def _measure(census: Census, chunk: list[Record], task: Task, settings: Settings) -> None:
    """Tokens of the records whose images are sound; `max_length` cuts training records alone."""
    if settings.meter is None:
        return
    broken, split = settings.image_problems.keys(), census.report.split
    sound = [record for record in chunk if broken.isdisjoint(record.images)]
    items = [(record, task.instruction) for record in sound]
    lengths = settings.meter.lengths(items, split == TRAIN)
    for record, length in zip(sound, lengths, strict=True):
        if isinstance(length, Length):
            census.truncation.add(record.number, length)
        else:
            census.problems.append(Problem.of(task.files[split], record.number, length))
