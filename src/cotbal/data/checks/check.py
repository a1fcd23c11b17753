"""Everything that is wrong with a mixture, in one go, and what each of its splits holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cotbal.data.batches.lengths import Meter
from cotbal.data.checks.census import Census, Progress, Settings, take_census, warnings_of_unread
from cotbal.data.checks.leaks import TRAIN, FileKeys, leaks
from cotbal.data.checks.same_images import same_images
from cotbal.data.checks.texts import check_texts
from cotbal.data.reading.record import Problem
from cotbal.errors import CotbalError
from cotbal.recipe import accelerate_file
from cotbal.recipe.mixture import Task
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import portion_size
from cotbal.scores.measure import load_metric

ADVISED_MINI = 1000  # records; Appendix C of the paper


@dataclass(frozen=True)
class SplitReport:
    """What one file of records holds; only records without an error of their own are counted.

    Attributes:
        task, split, file: whose file it is; split is `train`, `validation` or the name of a test
            split.
        records, turns: conversations, and pairs of question and answer in them.
        images: distinct images, of which `found` are good, `missing` are not there, `broken`
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
    records: int
    turns: int
    images: int
    found: int
    missing: int
    broken: int
    rejected: int
    dropped: int
    answer_characters: int
    valid_tokens: int | None
    trained_tokens: int | None
    mini: int | None


@dataclass(frozen=True)
class CheckReport:
    """The errors that keep a recipe from running, the warnings that do not, and the sizes of every
    split.
    """

    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    tasks: tuple[SplitReport, ...]

    def and_of_probes(self, probes: CheckReport) -> CheckReport:
        """With what is wrong only with the settings that the probes have of their own."""
        problems = (
            replace(problem, message=f"of the probes: {problem.message}")
            for problem in probes.problems
            if problem not in self.problems
        )
        warnings = (f"of the probes: {w}" for w in probes.warnings if w not in self.warnings)
        return replace(
            self, problems=(*self.problems, *problems), warnings=(*self.warnings, *warnings)
        )

    def to_json(self) -> dict[str, Any]:
        """The report in plain types; an error is `{file, number, message}`, number 0 being the file
        as a whole.
        """
        problems = [
            {"file": str(f.file), "number": f.number, "message": f.message} for f in self.problems
        ]
        return {
            "errors": problems,
            "warnings": list(self.warnings),
            "tasks": [asdict(task) for task in self.tasks],
        }


def check_mixture(
    recipe: Recipe,
    cache: Path,
    decode: bool = True,
    meter: Meter | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Read every record and image of every task and split, and list all that is wrong.

    Args:
        cache: directory of converted records, such as `default_cache()`.
        decode: False looks only whether the images exist.
        meter: measures tokens, and finds images that the model's processor rejects.
        progress: is called with what is being read, and how much of how much is done.
    """
    drop = recipe.file.on_missing_image == "drop"
    problems = [Problem(path, 0, message) for path, message in accelerate_file.problems(recipe)]
    if error := _problem_of(meter):
        problems.append(Problem(recipe.path, 0, f"model: {error}"))
        meter = None
    settings = Settings(recipe.images, cache, drop, decode, meter, progress or _be_silent)
    warnings: list[str] = []
    reports: list[SplitReport] = []
    files: list[FileKeys] = []
    for task in recipe.mixture.tasks:
        censuses = {split: take_census(task, split, path, settings) for split, path in _files(task)}
        problems += _problems_of_task(recipe, task, censuses)
        new = [_report(recipe, task, split, census) for split, census in censuses.items()]
        warnings += _warnings_of_sizes(recipe, task, new[0])
        warnings += _warnings_of_truncation(recipe, task, censuses[TRAIN])
        for census in censuses.values():
            warnings += [f"dropped: {line}" for line in census.dropped]
        files += _keys(task, censuses)
        unread = {split: census.unread for split, census in censuses.items()}
        warnings += warnings_of_unread(task, dict(_files(task)), unread)
        reports += new
    warnings += _warnings_of_leaks(files, settings)
    warnings += _warnings_of_meter(meter)
    texts = check_texts(recipe, cache, progress)
    problems, warnings = problems + texts.problems, warnings + texts.warnings
    return CheckReport(tuple(problems), tuple(warnings), tuple(reports))


def _problem_of(meter: Meter | None) -> str | None:
    """Why the processor of the model cannot be used, if it cannot."""
    try:
        if meter is not None:
            meter.rejected(())
    except CotbalError as error:
        return str(error)
    return None


def _problems_of_task(
    recipe: Recipe, task: Task, censuses: Mapping[str, Census]
) -> Iterator[Problem]:
    yield from _problems_of_metrics(recipe, task)
    for census in censuses.values():
        yield from census.problems
    yield from _nothing_trained(recipe, task, censuses[TRAIN])


def _be_silent(what: str, done: int, total: int) -> None:
    pass


def _files(task: Task) -> Iterator[tuple[str, Path]]:
    yield "train", task.train
    if task.validation is not None:
        yield "validation", task.validation
    yield from task.test.items()


def _problems_of_metrics(recipe: Recipe, task: Task) -> Iterator[Problem]:
    for metric in dict.fromkeys((task.metric, *task.test_metrics)):
        try:
            load_metric(metric)
        except CotbalError as error:
            yield Problem(recipe.path, 0, f"task {task.name}: {error}")


def _report(recipe: Recipe, task: Task, split: str, census: Census) -> SplitReport:
    kept = census.records - len(census.dropped)
    measured = census.truncation.records > 0
    return SplitReport(
        task=task.name,
        split=split,
        file=str(dict(_files(task))[split]),
        records=census.records,
        turns=census.turns,
        images=census.images,
        found=census.images - census.missing - census.broken - census.rejected,
        missing=census.missing,
        broken=census.broken,
        rejected=census.rejected,
        dropped=len(census.dropped),
        answer_characters=census.characters,
        valid_tokens=census.truncation.valid if measured else None,
        trained_tokens=census.truncation.kept if measured and split == TRAIN else None,
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
    ):  # without records, an error says why
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


def _nothing_trained(recipe: Recipe, task: Task, train: Census) -> Iterator[Problem]:
    if train.truncation.records:
        problem = train.truncation.problem(task.name, task.train, recipe.model.max_length)
        yield from [problem] if problem else []


def _warnings_of_truncation(recipe: Recipe, task: Task, train: Census) -> Iterator[str]:
    if train.truncation.records:
        warning = train.truncation.warning(task.name, task.train, recipe.model.max_length)
        yield from [warning] if warning else []


def _warnings_of_meter(meter: Meter | None) -> Iterator[str]:
    if meter is not None and not meter.exact:
        yield (
            "valid tokens are those of the answers alone: without PyTorch, or without a processor "
            "in the checkpoint, what model.max_length cuts off is not known"
        )


def _keys(task: Task, censuses: Mapping[str, Census]) -> Iterator[FileKeys]:
    for split, path in _files(task):
        keys = censuses[split].keys
        if keys is not None:
            yield FileKeys(task.name, split, path, keys)


def _warnings_of_leaks(files: Sequence[FileKeys], settings: Settings) -> Iterator[str]:
    def progress(done: int, total: int) -> None:
        settings.progress("copies of images", done, total)

    same = same_images(settings.images, [*settings.places], settings.decode, progress)
    yield from leaks(files, same)


_MANY = 5  # messages of one kind that are all shown
_FIRST = 3  # of more than that

_IMAGE = re.compile(r"\b(missing|broken|rejected) (?:image|image) (.*/)?[^/]+?(?=: |$)")
_VARYING = re.compile(r"""'[^']*'|"[^"]*"|\d[\d,.]*""")


def condensed(messages: Sequence[str]) -> list[str]:
    """The messages, of every kind at most the first few and how many more there are.

    Messages are of one kind if they differ only in numbers, in quoted text, and in the name of an
    image within a folder.
    """
    kinds: dict[str, list[str]] = {}
    for message in messages:
        kinds.setdefault(_kind(message), []).append(message)
    lines: list[str] = []
    for kind, group in kinds.items():
        if len(group) <= _MANY:
            lines += group
            continue
        folder = re.search(r"(\w+) images in (.+?)(?=: |$)", kind)
        where = f" {folder[1]} images in {folder[2]}" if folder else " of this kind"
        lines += [
            *group[:_FIRST],
            f"... and {len(group) - _FIRST:,} more; {len(group):,}{where} in all",
        ]
    return lines


def _kind(message: str) -> str:
    return _VARYING.sub("#", _IMAGE.sub(r"\1 images in \2", message))
