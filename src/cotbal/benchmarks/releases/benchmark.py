"""From releases to a benchmark: the splits of every task, one task after the other, then its
recipe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from cotbal.benchmarks.releases.conversation import Asked, Conversation, Writable
from cotbal.benchmarks.releases.finding import directory
from cotbal.benchmarks.releases.gallery import Gallery
from cotbal.benchmarks.releases.length import turn_counter
from cotbal.benchmarks.releases.rules import truncated, with_unique_ids
from cotbal.benchmarks.releases.sources import (
    POLICIES,
    Choices,
    Job,
    Source,
    choose,
    what_is_needed,
)
from cotbal.benchmarks.releases.writing import (
    Expected,
    SplitSummary,
    SplitWriter,
    done_splits,
    note_path,
    remove_unfinished,
    write_note,
)
from cotbal.data.checks.census import Progress
from cotbal.data.files import locked, write_text
from cotbal.errors import CotbalError, DataError

Count = Callable[[Asked], int]  # tokens of a turn
_LOCK = ".lock"  # stays where cotbal has worked


@dataclass(frozen=True)
class SplitPlan:
    """One split of a task: where it may come from, the first choice first, and what it should
    hold."""

    name: str
    sources: tuple[Source, ...]
    expected: Expected


@dataclass(frozen=True)
class TaskPlan:
    """One task of a benchmark.

    Attributes:
        name: as in the records and the recipe.
        metric: of the recipe; None for a task without evaluation.
        splits: train, and validation and test splits if it has any.
        folders: of its images, in the layout of LLaVA and ShareGPT4V.
        remarks: what the paper leaves open and how it is settled here; comments in the recipe.
        balanced: False for a task that takes no part in the probes.
        group: whose weight the task shares, if any.
        version: another one for every change of what the readers make of the same files, or of the
            files.
    """

    name: str
    metric: str | None
    splits: tuple[SplitPlan, ...]
    folders: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    balanced: bool = True
    version: int | str = 1
    group: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """What is to be prepared.

    Attributes:
        plans: all tasks, in the order of the recipe.
        chosen: the tasks to make now.
        recipe_text: the recipe of some of the plans.
        beside: other files that the recipe names, name to text.
    """

    plans: Sequence[TaskPlan]
    chosen: Sequence[TaskPlan]
    recipe_text: Callable[[Sequence[TaskPlan]], str]
    beside: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A benchmark on disk: its recipe, and the summary of every split of every task in it."""

    recipe: Path
    splits: tuple[SplitSummary, ...]


@dataclass(frozen=True)
class Places:
    """Directories: `raw` is read, `out` is written; `images` holds the user's images, `raw/images`
    by default.
    """

    raw: Path
    out: Path
    images: Path | None = None


def chosen_tasks(plans: Sequence[TaskPlan], names: Sequence[str] | None) -> list[TaskPlan]:
    """The plans of these names, or all of them. Raises CotbalError for a name that no plan has."""
    if names is None:
        return list(plans)
    known = {plan.name: plan for plan in plans}
    strange = [name for name in names if name not in known]
    if strange or not names:
        raise CotbalError(
            f"--tasks: expected some of {', '.join(known)}; found {', '.join(strange) or 'none'}",
            "unknown-task",
        )
    return [plan for plan in plans if plan.name in names]


def prepare(benchmark: Benchmark, places: Places, choices: Choices, progress: Progress) -> Prepared:
    """Make every chosen task that is not complete yet, then the recipe of all complete tasks.

    Args:
        progress: called with the name of the file, and how much of how much is read.

    Raises:
        DataError: files that cotbal did not write are in the way, files of a release are absent
            (all of them are named before anything is read), of another version or broken, or
            images are missing.
    """
    if not places.raw.is_dir():
        raise DataError(
            f"{places.raw}: expected the directory of the raw releases; found no such directory",
            "missing-file",
        )
    given = _user_images(places)
    _check(choices, benchmark.plans)
    count = None if choices.tokenizer is None else turn_counter(choices.tokenizer)
    _demand_not_of_others(benchmark.chosen, places.out)
    with locked(places.out / _LOCK):
        done = {
            plan.name: done_splits(places.out, plan.name, choices, plan.version)
            for plan in benchmark.plans
        }
        todo = [
            _search(plan, places.raw, choices.prefer)
            for plan in benchmark.chosen
            if done[plan.name] is None
        ]
        ready = [plan.name for plan in benchmark.chosen if done[plan.name] is not None]
        _demand_sources(todo, ready, places.raw)
        job = Job(choices, Gallery(places.out / "images", given), progress)
        for task in todo:
            done[task.plan.name] = _make(task, places, job, count)
        recipe = _write_recipe(benchmark, places.out, done)
    return Prepared(recipe, tuple(chain.from_iterable(filter(None, done.values()))))


def _write_recipe(
    benchmark: Benchmark, out: Path, done: Mapping[str, list[SplitSummary] | None]
) -> Path:
    """The recipe of all tasks that are done, and the files that it names."""
    for name, text in benchmark.beside.items():
        _write_ours(out / name, text)
    ready = [plan for plan in benchmark.plans if done[plan.name] is not None]
    return _write_ours(out / "recipe.yaml", benchmark.recipe_text(ready))


def _demand_not_of_others(chosen: Sequence[TaskPlan], out: Path) -> None:
    """Raise DataError rather than overwrite files where cotbal has not written before."""
    if (out / _LOCK).exists():
        return
    for plan in chosen:
        if note_path(out, plan.name).exists():
            continue
        for split in plan.splits:
            file = out / "data" / f"{plan.name}_{split.name}.jsonl"
            if file.exists():
                raise DataError(
                    f"{file}: exists, and was not written by cotbal; prepare into another"
                    " directory, or move it away",
                    "existing-output",
                )


def _check(choices: Choices, plans: Sequence[TaskPlan]) -> None:
    """Validate the choices."""
    if choices.on_missing_image not in POLICIES:
        raise CotbalError(
            f"--on-missing-image: expected one of {', '.join(POLICIES)}; found"
            f" {choices.on_missing_image!r}",
            "invalid-option",
        )
    splits = chain.from_iterable(plan.splits for plan in plans)
    forms = dict.fromkeys(source.form for split in splits for source in split.sources)
    if choices.prefer is not None and choices.prefer not in forms:
        raise CotbalError(
            f"--prefer: expected one of {', '.join(forms)}; found {choices.prefer!r}",
            "invalid-option",
        )
    if (choices.max_tokens is None) != (choices.tokenizer is None):
        raise CotbalError(
            "--max-tokens and --tokenizer: expected both or none; give the tokenizer of the base"
            " model",
            "invalid-option",
        )


def _user_images(places: Places) -> Path | None:
    if places.images is not None and not places.images.is_dir():
        raise DataError(
            f"--images: expected a directory of images; found no directory {places.images}",
            "missing-file",
        )
    return places.images or directory(places.raw, "images")


@dataclass(frozen=True)
class _Todo:
    """A task that is to be made, and the form in which each of its splits was found, or None."""

    plan: TaskPlan
    sources: Sequence[Source | None]


def _search(plan: TaskPlan, raw: Path, prefer: str | None) -> _Todo:
    return _Todo(plan, [choose(split.sources, raw, prefer) for split in plan.splits])


def _demand_sources(todo: Sequence[_Todo], ready: Sequence[str], raw: Path) -> None:
    """Raise one DataError about all absent files, with the tasks that can be prepared."""
    absent: dict[str, list[str]] = {}  # what is needed -> the splits that need it
    for task in todo:
        for split, source in zip(task.plan.splits, task.sources, strict=True):
            if source is None:
                needed = what_is_needed(split.sources, raw)
                absent.setdefault(needed, []).append(f"{task.plan.name} {split.name}")
    if not absent:
        return
    lines = []
    for needed, splits in absent.items():
        lines += [f"not found in {raw}: {', '.join(splits)}", needed]
    complete = [*ready, *(task.plan.name for task in todo if None not in task.sources)]
    if complete:
        lines.append(f"The other tasks can be prepared with --tasks {','.join(complete)}")
    raise DataError("\n".join(lines), "missing-file")


def _make(task: _Todo, places: Places, job: Job, count: Count | None) -> list[SplitSummary]:
    plan = task.plan
    remove_unfinished(places.out, plan.name)
    job.gallery.offer(plan.folders)
    writer = SplitWriter(places.out, plan.name, job.gallery, job.choices)
    summaries = []
    for split, source in zip(plan.splits, task.sources, strict=True):
        assert source is not None  # see _demand_sources
        conversations = with_unique_ids(source.read(source.find(places.raw), job))
        if count is not None:
            conversations = _shortened(conversations, count, job.choices.max_tokens or 0)
        summaries.append(writer.write(split.name, source.form, conversations, split.expected))
    write_note(places.out, plan.name, job.choices, plan.version, summaries)
    return summaries


def _shortened(conversations: Iterator[Writable], count: Count, longest: int) -> Iterator[Writable]:
    for conversation in conversations:
        if isinstance(conversation, Conversation):
            turns = truncated(conversation.turns, count, longest)
            yield replace(conversation, turns=turns)
        else:
            yield conversation


def task_yaml(plan: TaskPlan) -> str:
    """The entry of one task in the recipe, its remarks as comments above it."""
    lines = [f"  # {remark}" for remark in plan.remarks] + [f"  {plan.name}:"]
    files = {split.name: f"data/{plan.name}_{split.name}.jsonl" for split in plan.splits}
    tests = {name: file for name, file in files.items() if name not in ("train", "validation")}
    lines += [f"    {name}: {file}" for name, file in files.items() if name not in tests]
    if tests:
        listed = ", ".join(f"{name}: {file}" for name, file in tests.items())
        lines.append(f"    test: {{{listed}}}")
    if plan.metric:
        lines.append(f"    metric: {plan.metric}")
    if plan.group:
        lines.append(f"    group: {plan.group}")
    if not plan.balanced:
        lines.append("    balanced: false")
    return "\n".join(lines) + "\n"


_MARK = "# sha256 of what follows: "


def _write_ours(path: Path, text: str) -> Path:
    """Write the recipe, or a file that it names; one that the user has changed since stays, the new
    one beside it.
    """
    whole = f"{_MARK}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"
    if path.is_file() and not _is_ours(path):
        path = path.with_name(f"{path.stem}.new{path.suffix}")
    write_text(path, whole)
    return path


def _is_ours(path: Path) -> bool:
    with suppress(UnicodeDecodeError):
        head, _, rest = path.read_text(encoding="utf-8").partition("\n")
        return head == f"{_MARK}{hashlib.sha256(rest.encode()).hexdigest()}"
    return False
