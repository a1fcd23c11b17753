"""From releases to a benchmark: the splits of every task, one task after the other, then its
recipe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cotbal.benchmarks.releases.conversation import Asked, Conversation, Writable
from cotbal.benchmarks.releases.finding import directory
from cotbal.benchmarks.releases.gallery import Gallery
from cotbal.benchmarks.releases.length import turn_counter
from cotbal.benchmarks.releases.rules import truncated
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
from cotbal.data.census import Progress
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
        folders: of its pictures, in the layout of LLaVA and ShareGPT4V.
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
class Prepared:
    """A benchmark on disk: its recipe, and the summary of every split of every task in it."""

    recipe: Path
    splits: tuple[SplitSummary, ...]


@dataclass(frozen=True)
class Places:
    """Directories: `raw` is read, `out` is written; `images` holds the user's pictures,
    `raw/images` by default.
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
            f"--tasks: expected some of {', '.join(known)}; found {', '.join(strange) or 'none'}"
        )
    return [plan for plan in plans if plan.name in names]


def prepare(
    plans: Sequence[TaskPlan],
    chosen: Sequence[TaskPlan],
    places: Places,
    choices: Choices,
    recipe_text: Callable[[Sequence[TaskPlan]], str],
    progress: Progress,
    beside: Mapping[str, str] | None = None,
) -> Prepared:
    """Make every chosen task that is not there yet, then the recipe of all tasks that are there.

    Args:
        plans: all tasks of the benchmark, in the order of the recipe.
        recipe_text: the recipe of some of the plans.
        progress: is told what is being read, and how much of how much is done.
        beside: other files that the recipe names, name to text.

    Raises:
        DataError: files of others are in the way, files of a release are absent (all of them are
            named before anything is read), of another version or broken, or pictures are missing.
    """
    if not places.raw.is_dir():
        raise DataError(
            f"{places.raw}: expected the directory of the raw releases; found no such directory"
        )
    given = _pictures(places)
    _check(choices, plans)
    count = None if choices.tokenizer is None else turn_counter(choices.tokenizer)
    _spare(chosen, places.out)
    with locked(places.out / _LOCK):
        done = {
            plan.name: done_splits(places.out, plan.name, choices, plan.version) for plan in plans
        }
        todo = [plan for plan in chosen if done[plan.name] is None]
        sources = [_sources(plan, places.raw, choices.prefer) for plan in todo]
        _demand(todo, [plan for plan in chosen if plan not in todo], sources, places.raw)
        job = Job(choices, Gallery(places.out / "images", given), progress)
        for plan, found in zip(todo, sources, strict=True):
            done[plan.name] = _make(
                plan, [source for source in found if source is not None], places, job, count
            )
        ready = [plan for plan in plans if done[plan.name] is not None]
        for name, text in (beside or {}).items():
            _write_ours(places.out / name, text)
        recipe = _write_ours(places.out / "recipe.yaml", recipe_text(ready))
    return Prepared(recipe, tuple(split for splits in done.values() for split in splits or ()))


def _spare(chosen: Sequence[TaskPlan], out: Path) -> None:
    """Refuse to write over files of a directory in which cotbal has not worked before."""
    begun = [plan for plan in chosen if not note_path(out, plan.name).exists()]
    files = (
        out / "data" / f"{plan.name}_{split.name}.jsonl" for plan in begun for split in plan.splits
    )
    theirs = [] if (out / _LOCK).exists() else [file for file in files if file.exists()]
    if theirs:
        raise DataError(
            f"{theirs[0]}: it is there, and not of cotbal; prepare into another directory, or move"
            " it away"
        )


def _check(choices: Choices, plans: Sequence[TaskPlan]) -> None:
    """Refuse choices that there are not."""
    if choices.on_missing_image not in POLICIES:
        raise CotbalError(
            f"--on-missing-image: expected one of {', '.join(POLICIES)}; found"
            f" {choices.on_missing_image!r}"
        )
    forms = dict.fromkeys(
        source.form for plan in plans for split in plan.splits for source in split.sources
    )
    if choices.prefer is not None and choices.prefer not in forms:
        raise CotbalError(f"--prefer: expected one of {', '.join(forms)}; found {choices.prefer!r}")
    if (choices.max_tokens is None) != (choices.tokenizer is None):
        raise CotbalError(
            "--max-tokens and --tokenizer: expected both or none; give the tokenizer of the base"
            " model"
        )


def _pictures(places: Places) -> Path | None:
    if places.images is not None and not places.images.is_dir():
        raise DataError(
            f"--images: expected a directory of images; found no directory {places.images}"
        )
    return places.images or directory(places.raw, "images")


def _sources(plan: TaskPlan, raw: Path, prefer: str | None) -> list[Source | None]:
    return [choose(split.sources, raw, prefer) for split in plan.splits]


def _demand(
    todo: Sequence[TaskPlan],
    done: Sequence[TaskPlan],
    sources: Sequence[Sequence[Source | None]],
    raw: Path,
) -> None:
    """Raise one message about all that is absent."""
    absent: dict[str, list[str]] = {}  # what is needed -> the splits that need it
    for plan, found in zip(todo, sources, strict=True):
        for split, source in zip(plan.splits, found, strict=True):
            if source is None:
                absent.setdefault(what_is_needed(split.sources, raw), []).append(
                    f"{plan.name} {split.name}"
                )
    if not absent:
        return
    told = "\n".join(
        f"not found in {raw}: {', '.join(names)}\n{needed}" for needed, names in absent.items()
    )
    there = [plan.name for plan, found in zip(todo, sources, strict=True) if None not in found]
    names = ",".join([*(plan.name for plan in done), *there])
    raise DataError(
        told + (f"\nWhat is there can be prepared with --tasks {names}" if names else "")
    )


def _make(
    plan: TaskPlan, sources: Sequence[Source], places: Places, job: Job, count: Count | None
) -> list[SplitSummary]:
    remove_unfinished(places.out, plan.name)
    job.gallery.offer(plan.folders)
    writer = SplitWriter(places.out, plan.name, job.gallery, job.choices)
    summaries = []
    for split, source in zip(plan.splits, sources, strict=True):
        conversations = source.read(source.find(places.raw), job)
        if count is not None:
            conversations = _shortened(conversations, count, job.choices.max_tokens or 0)
        summaries.append(writer.write(split.name, source.form, conversations, split.expected))
    write_note(places.out, plan.name, job.choices, plan.version, summaries)
    return summaries


def _shortened(conversations: Iterator[Writable], count: Count, longest: int) -> Iterator[Writable]:
    for each in conversations:
        short = isinstance(each, Conversation) and replace(
            each, turns=truncated(each.turns, count, longest)
        )
        yield short or each


def task_yaml(plan: TaskPlan) -> str:
    """The entry of one task in the recipe, its remarks as comments above it."""
    lines = [f"  # {remark}" for remark in plan.remarks] + [f"  {plan.name}:"]
    files = {split.name: f"data/{plan.name}_{split.name}.jsonl" for split in plan.splits}
    tests = {name: file for name, file in files.items() if name not in ("train", "validation")}
    lines += [f"    {name}: {file}" for name, file in files.items() if name not in tests]
    lines += (
        ["    test: {" + ", ".join(f"{name}: {file}" for name, file in tests.items()) + "}"]
        if tests
        else []
    )
    lines += [f"    metric: {plan.metric}"] if plan.metric else []
    lines += [f"    group: {plan.group}"] if plan.group else []
    lines += [] if plan.balanced else ["    balanced: false"]
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
