"""All errors of a mixture at once, and what each of its splits holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cotbal.data.batches.lengths import Meter
from cotbal.data.checks.census import Census, Progress, Settings, SplitReport, take_census
from cotbal.data.checks.leaks import Keys, leaks
from cotbal.data.checks.same_images import same_images
from cotbal.data.checks.texts import check_texts
from cotbal.data.reading.record import Problem
from cotbal.errors import CotbalError
from cotbal.recipe import accelerate_file
from cotbal.recipe.mixture import TRAIN, Task
from cotbal.recipe.recipe import Recipe
from cotbal.scores.measure import load_metric

ADVISED_MINI = 1000  # records; Appendix C of the paper

_MANY = 5  # messages of one kind that are all shown
_FIRST = 3  # of more than that
_IMAGE = re.compile(r"\b(missing|broken|rejected) image (.*/)?[^/]+?(?=: |$)")
_VARYING = re.compile(r"""'[^']*'|"[^"]*"|\d[\d,.]*""")


@dataclass(frozen=True)
class CheckReport:
    """Errors, which keep a recipe from running, warnings, and the sizes of every split."""

    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    tasks: tuple[SplitReport, ...]

    def and_of_probes(self, probes: CheckReport) -> CheckReport:
        """With the errors and warnings that only the settings of the probes have."""
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
        """The report in plain types; an error is `{file, number, code, message}`, number 0 being
        the file as a whole.
        """
        return {
            "errors": [
                {"file": str(p.file), "number": p.number, "code": p.code, "message": p.message}
                for p in self.problems
            ],
            "warnings": list(self.warnings),
            "tasks": [asdict(task) for task in self.tasks],
        }


def check_mixture(
    recipe: Recipe,
    cache: Path,
    decode: bool = True,
    meter: Meter | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> CheckReport:
    """Read every record and image of every task and split, and list all errors.

    Args:
        cache: directory of converted records, such as `default_cache()`.
        decode: False looks only whether the images exist.
        meter: measures tokens, and finds images that the model's processor rejects.
        progress: receives what is being read, and how much of how much is done.
    """
    problems = [
        Problem(path, 0, message, "invalid-accelerate-config")
        for path, message in accelerate_file.problems(recipe)
    ]
    try:
        if meter is not None:
            meter.rejected(())
    except CotbalError as error:
        problems.append(Problem(recipe.path, 0, f"model: {error}", error.code))
        meter = None
    settings = Settings(recipe, cache, decode, meter, progress)
    warnings: list[str] = []
    reports: list[SplitReport] = []
    keys: list[Keys] = []
    for task in recipe.mixture.tasks:
        censuses = {split: take_census(task, split, settings) for split in task.files}
        problems += _problems_of_task(recipe, task, censuses)
        warnings += _warnings_of_task(recipe, task, censuses)
        reports += (census.report for census in censuses.values())
        keys += (census.keys for census in censuses.values())
    warnings += _warnings_of_leaks(keys, settings)
    if meter is not None and not meter.exact:
        warnings.append(
            "valid tokens are those of the answers alone: without PyTorch, or without a processor "
            "in the checkpoint, what model.max_length cuts off is not known"
        )
    texts = check_texts(recipe, cache, progress)
    problems, warnings = problems + texts.problems, warnings + texts.warnings
    return CheckReport(tuple(problems), tuple(warnings), tuple(reports))


def _problems_of_task(
    recipe: Recipe, task: Task, censuses: Mapping[str, Census]
) -> Iterator[Problem]:
    for metric in dict.fromkeys((task.metric, *task.test_metrics)):
        try:
            load_metric(metric)
        except CotbalError as error:
            yield Problem(recipe.path, 0, f"task {task.name}: {error}", error.code)
    for census in censuses.values():
        yield from census.problems
    train = censuses.get(TRAIN)
    if train is not None and train.truncation.records:
        file = task.files[TRAIN]
        problem = train.truncation.problem(task.name, file, recipe.model.max_length)
        yield from [problem] if problem else []


def _warnings_of_task(recipe: Recipe, task: Task, censuses: Mapping[str, Census]) -> Iterator[str]:
    if task.train is None:
        yield f"task {task.name}: no training set; it is only evaluated and has no weight"
        if task.validation is None:
            yield f"task {task.name}: no validation set; trials cannot score it, nor steer guard it"
    else:
        yield from _warnings_of_training(recipe, task, censuses[TRAIN])
    for census in censuses.values():
        yield from (f"dropped: {problem}" for problem in census.dropped)
    yield from _warnings_of_unread(task, censuses)


def _warnings_of_training(recipe: Recipe, task: Task, train: Census) -> Iterator[str]:
    if task.validation is None:
        yield f"task {task.name}: no validation set; it can be trained, but not measured"
    yield from _warnings_of_mini(recipe, train.report)
    if train.truncation.records:
        file, limit = task.files[TRAIN], recipe.model.max_length
        warning = train.truncation.warning(task.name, file, limit)
        yield from [warning] if warning else []


def _warnings_of_mini(recipe: Recipe, train: SplitReport) -> Iterator[str]:
    kept, rate = train.records - train.dropped, recipe.file.portions.mini
    if train.mini is None or train.mini >= ADVISED_MINI or not kept:  # no records: an error
        return
    if kept < 2 * ADVISED_MINI:  # a mini of the whole task leaves nothing to learn from the rest
        advice = f", which takes a task of more than {ADVISED_MINI:,}: expect wide intervals"
    else:
        advice = f"; set portions.mini to 1/{kept // ADVISED_MINI} or more for this task"
    yield (
        f"task {train.task}: its mini portion has {train.mini:,} records ({rate} of {kept:,}); the"
        f" paper advises at least {ADVISED_MINI:,} (Appendix C), since the scores of a smaller one"
        f" are noisy{advice}"
    )


def _warnings_of_unread(task: Task, censuses: Mapping[str, Census]) -> Iterator[str]:
    """Keys that nothing reads, once per key and task."""
    for key in dict.fromkeys(key for census in censuses.values() for key in census.unread):
        having = [census for census in censuses.values() if key in census.unread]
        number = sum(census.unread[key].count for census in having)
        first = having[0]
        yield (
            f"task {task.name}: nothing reads the key `{key}` of {number:,} records; the first is"
            f" {first.report.file}, record {first.unread[key].first}. What the model should see or"
            " learn belongs into the turns"
        )


def _warnings_of_leaks(files: Sequence[Keys], settings: Settings) -> Iterator[str]:
    def progress(done: int, total: int) -> None:
        settings.progress("copies of images", done, total)

    same = same_images(settings.recipe.images, [*settings.places], settings.decode, progress)
    yield from leaks(files, same)


def condensed(messages: Sequence[str]) -> list[str]:
    """The messages, of every kind at most the first few and how many more there are.

    Messages are of one kind if they differ only in numbers, in quoted text, and in the name of an
    image within a folder.
    """
    kinds: dict[str, list[str]] = {}
    for message in messages:
        kind = _VARYING.sub("#", _IMAGE.sub(r"\1 images in \2", message))
        kinds.setdefault(kind, []).append(message)
    lines: list[str] = []
    for kind, group in kinds.items():
        if len(group) <= _MANY:
            lines += group
            continue
        folder = re.search(r"(\w+) images in (.+?)(?=: |$)", kind)
        where = f" {folder[1]} images in {folder[2]}" if folder else " of this kind"
        more = f"... and {len(group) - _FIRST:,} more; {len(group):,}{where} in all"
        lines += [*group[:_FIRST], more]
    return lines
