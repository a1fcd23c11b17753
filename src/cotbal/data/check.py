"""Everything that is wrong with a mixture, in one go, and what each of its splits holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from cotbal import accelerate_file
from cotbal.data.census import Census, CountTokens, Progress, Settings, take_census
from cotbal.data.conversations import Fault
from cotbal.data.unread_report import warnings_of_unread
from cotbal.errors import CotbalError
from cotbal.measure import load_metric
from cotbal.mixture import Task
from cotbal.recipe import Recipe
from cotbal.runs import portion_size

ADVISED_MINI = 1000  # records; Appendix C of the paper


@dataclass(frozen=True)
class SplitReport:
    """What one file of records holds; only records without a fault of their own are counted.

    Attributes:
        task, split, file: whose file it is; split is `train`, `validation` or the name of a test
            split.
        records, turns: conversations, and pairs of question and answer in them.
        pictures: distinct pictures, of which `found` are good, `missing` are not there and `broken`
            cannot be read.
        dropped: records that `on_missing_image: drop` leaves out.
        answer_characters: characters in all answers.
        valid_tokens: tokens that carry loss, or None when nobody counted them.
        mini: records in the mini portion; None for all but the train split of a balanced task.
    """

    task: str
    split: str
    file: str
    records: int
    turns: int
    pictures: int
    found: int
    missing: int
    broken: int
    dropped: int
    answer_characters: int
    valid_tokens: int | None
    mini: int | None


@dataclass(frozen=True)
class CheckReport:
    """The faults that keep a recipe from running, the warnings that do not, and the sizes of every
    split.
    """

    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]
    tasks: tuple[SplitReport, ...]

    def to_json(self) -> dict[str, Any]:
        """The report in plain types; a fault is `{file, number, message}`, number 0 being the file
        as a whole.
        """
        faults = [
            {"file": str(f.file), "number": f.number, "message": f.message} for f in self.faults
        ]
        return {
            "faults": faults,
            "warnings": list(self.warnings),
            "tasks": [asdict(task) for task in self.tasks],
        }


def check_mixture(
    recipe: Recipe,
    cache: Path,
    decode: bool = True,
    count_tokens: CountTokens | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Read every record and picture of every task and split, and list all that is wrong.

    Args:
        cache: directory of converted records, such as `default_cache()`.
        decode: False looks only whether the pictures exist.
        count_tokens: number of tokens of a record that carry loss.
        progress: is told what is being read, and how much of how much is done.
    """
    drop = recipe.file.on_missing_image == "drop"
    settings = Settings(recipe.images, cache, drop, decode, count_tokens, progress or _be_silent)
    faults = [Fault(path, 0, message) for path, message in accelerate_file.faults(recipe)]
    warnings: list[str] = []
    reports: list[SplitReport] = []
    for task in recipe.mixture.tasks:
        files = dict(_files(task))
        censuses = {
            split: take_census(task, split, path, settings) for split, path in files.items()
        }
        faults += _faults_of_metrics(recipe, task)
        faults += [fault for census in censuses.values() for fault in census.faults]
        new = [_report(recipe, task, split, censuses[split]) for split in files]
        warnings += _warnings_of_sizes(recipe, task, new[0])
        warnings += [f"dropped: {line}" for census in censuses.values() for line in census.dropped]
        warnings += _warnings_of_leaks(task, files, censuses)
        unread = {split: census.unread for split, census in censuses.items()}
        warnings += warnings_of_unread(task, files, unread)
        reports += new
    return CheckReport(tuple(faults), tuple(warnings), tuple(reports))


def _be_silent(what: str, done: int, total: int) -> None:
    pass


def _files(task: Task) -> Iterator[tuple[str, Path]]:
    yield "train", task.train
    if task.validation is not None:
        yield "validation", task.validation
    yield from task.test.items()


def _faults_of_metrics(recipe: Recipe, task: Task) -> Iterator[Fault]:
    for metric in dict.fromkeys((task.metric, *task.test_metrics)):
        try:
            load_metric(metric)
        except CotbalError as error:
            yield Fault(recipe.path, 0, f"task {task.name}: {error}")


def _report(recipe: Recipe, task: Task, split: str, census: Census) -> SplitReport:
    kept = census.records - len(census.dropped)
    return SplitReport(
        task=task.name,
        split=split,
        file=str(dict(_files(task))[split]),
        records=census.records,
        turns=census.turns,
        pictures=census.pictures,
        found=census.pictures - census.missing - census.broken,
        missing=census.missing,
        broken=census.broken,
        dropped=len(census.dropped),
        answer_characters=census.characters,
        valid_tokens=census.tokens,
        mini=(
            portion_size(kept, recipe.file.portions.mini)
            if split == "train" and task.balanced
            else None
        ),
    )


def _warnings_of_sizes(recipe: Recipe, task: Task, train: SplitReport) -> Iterator[str]:
    if task.validation is None:
        yield f"task {task.name}: no validation set; it can be trained, but not measured"
    kept = train.records - train.dropped
    if (
        train.mini is None or train.mini >= ADVISED_MINI or not kept
    ):  # without records, a fault says why
        return
    few = (
        f"task {task.name}: its mini portion has {train.mini:,} records"
        f" ({recipe.file.portions.mini} of {kept:,})"
    )
    advised = (
        f"the paper advises at least {ADVISED_MINI:,} (Appendix C), since the scores of a smaller"
        " one are noisy"
    )
    if (
        kept < 2 * ADVISED_MINI
    ):  # a mini that is the whole task would leave nothing to learn from the rest
        yield (
            f"{few}; {advised}, which takes a task of more than {ADVISED_MINI:,}: expect wide"
            " intervals"
        )
    else:
        yield (
            f"{few}; {advised}; set portions.mini to 1/{kept // ADVISED_MINI} or more for this task"
        )


def _warnings_of_leaks(
    task: Task, files: Mapping[str, Path], censuses: Mapping[str, Census]
) -> Iterator[str]:
    """Records of a later split that an earlier one holds too: scores on them say nothing about new
    data.
    """
    for earlier, later in combinations(files, 2):
        seen, judged = censuses[earlier], censuses[later]
        for what, ours, theirs in (
            ("id", seen.ids, judged.ids),
            ("pictures and question", seen.questions, judged.questions),
        ):
            shared = np.flatnonzero(np.isin(theirs, ours))
            if len(shared):
                yield (
                    f"task {task.name}: {len(shared):,} records of {later} have the {what} of a"
                    f" record of {earlier}; the first is {files[later]}, record"
                    f" {judged.numbers[shared[0]]}"
                )
