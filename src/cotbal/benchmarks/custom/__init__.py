"""A benchmark of the user's own data: a folder of files, one per task, cut into splits and written
with a recipe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from cotbal import plugins
from cotbal.benchmarks.custom.answers import demand_corners
from cotbal.benchmarks.custom.division import Division
from cotbal.benchmarks.custom.folder import WHOLE, TaskFiles, find_tasks, task_name
from cotbal.benchmarks.custom.guard import Guard
from cotbal.benchmarks.custom.images import GIVEN, RAW
from cotbal.benchmarks.custom.rows import CustomConversation, own_conversations
from cotbal.benchmarks.custom.settings import head, longest_answer, settings, with_metric
from cotbal.benchmarks.releases import benchmark
from cotbal.benchmarks.releases.benchmark import (
    Benchmark,
    Places,
    Prepared,
    SplitPlan,
    TaskPlan,
    chosen_tasks,
    task_yaml,
)
from cotbal.benchmarks.releases.finding import directory, matching
from cotbal.benchmarks.releases.sources import Choices, Files, Job, Source
from cotbal.benchmarks.releases.writing import Expected, done_splits
from cotbal.data.checks.census import Progress
from cotbal.errors import CotbalError, DataError

__all__ = ["Choices", "Places", "plans", "prepare"]

_VERSION = 2  # raise it with every change of what is made of the same files
_GET = "the files were there a moment ago"


def plans(places: Places, choices: Choices) -> tuple[TaskPlan, ...]:
    """A plan for every task in the folder; metrics are chosen later, by the answers.

    Raises:
        CotbalError: no tasks, or an invalid size of a split.
    """
    if not places.raw.is_dir():
        raise DataError(
            f"{places.raw}: expected the directory of your dataset; found no such directory",
            "missing-file",
        )
    if places.out.resolve().is_relative_to(places.raw.resolve()):
        raise CotbalError(
            f"{places.out}: expected a directory outside {places.raw}, which is searched for data",
            "invalid-option",
        )
    guard = Guard(places, tuple(find_tasks(places.raw)))
    return tuple(_plan(task, guard, choices) for task in guard.tasks)


def _plan(task: TaskFiles, guard: Guard, choices: Choices) -> TaskPlan:
    drawn = _drawn_splits(task, choices)
    division = Division(drawn, choices.seed, task.name)
    splits = []
    for name in ("train", "validation", "test"):
        if name in drawn or name in task.patterns:
            source = _source(name, task, guard, division)
            splits.append(SplitPlan(name, (source,), Expected()))
    remarks: tuple[str, ...] = ()
    if WHOLE not in task.patterns:
        remarks = (f"{task.name}: no training files, so it is only evaluated and has no weight.",)
    version = _version(task, guard.places.raw)
    return TaskPlan(task.name, None, tuple(splits), remarks=remarks, version=version)


def _drawn_splits(task: TaskFiles, choices: Choices) -> dict[str, float]:
    """Splits that have no file and are drawn from the training files, with their sizes."""
    if WHOLE not in task.patterns:
        return {}
    sizes = {"test": choices.test, "validation": choices.validation}
    drawn = {}
    for split, size in sizes.items():
        if size and split not in task.patterns:
            _check_size(split, size)
            drawn[split] = size
    if "validation" not in task.patterns and "validation" not in drawn:
        raise CotbalError(
            f"--validation: expected a fraction or a number of records, since {task.name} has no"
            " such file",
            "invalid-option",
        )
    return drawn


def _check_size(split: str, size: float) -> None:
    if size < 0 or (size >= 1 and size != int(size)):
        raise CotbalError(
            f"--{split}: expected a fraction below 1 or a whole number of records; found {size:g}",
            "invalid-option",
        )


def _source(split: str, task: TaskFiles, guard: Guard, division: Division) -> Source:
    drawn = split not in task.patterns or split == WHOLE
    patterns = task.patterns[WHOLE if drawn else split]
    files = {str(number): pattern for number, pattern in enumerate(patterns)}
    read = partial(_read, split, task, guard, division if drawn else None)
    return Source("own", files, _GET, read)


def _read(
    split: str, task: TaskFiles, guard: Guard, division: Division | None, files: Files, job: Job
) -> Iterator[CustomConversation]:
    places = guard.places
    given = places.images or directory(places.raw, "images")
    if given is not None:
        job.gallery.link(GIVEN, given)
    job.gallery.link(RAW, places.raw)

    def rows(write: bool) -> Iterator[CustomConversation]:
        read = own_conversations(files, job, task.name, places.raw, write)
        return guard.guarded(task, read, job)

    chosen = rows(True) if division is None else division.part(split, rows, job.gallery.root)
    for conversation in chosen:
        yield conversation if split == "train" else conversation.asked_once()


def _version(task: TaskFiles, raw: Path) -> str:
    """Changes with every file of the task: its name, size and time."""
    states = []
    for pattern in chain.from_iterable(task.patterns.values()):
        for path in matching(raw, pattern):
            state = path.stat()
            states.append(f"{path.name} {state.st_size} {state.st_mtime_ns}")
    return f"{_VERSION}, files {hashlib.sha256(' '.join(states).encode()).hexdigest()[:12]}"


def prepare(
    places: Places,
    choices: Choices,
    progress: Progress,
    *,
    tasks: Sequence[str] | None = None,
    model: str = "llava-1.5-7b-base",
    metrics: Mapping[str, str] | None = None,
) -> Prepared:
    """Cut the user's data into splits, or some of its tasks; tasks that are complete on disk
    are kept.

    Args:
        places: where the data is, and where the benchmark goes.
        choices: `validation` and `test` say what is held out where no file is given.
        tasks: names of tasks; None means all.
        model: checkpoint of the recipe.
        metrics: task -> metric; others are chosen by the answers.

    Raises:
        CotbalError: unknown tasks or metrics, no task to train on, data that is broken, missing
            images.
    """
    known, chosen = plans(places, choices), metrics or {}
    _check_metrics(chosen, known)

    def text(ready: Sequence[TaskPlan]) -> str:
        measured = [with_metric(plan, places.out, chosen) for plan in ready]
        sizes = [size for plan in ready if (size := _training_records(plan, places.out, choices))]
        if not sizes:
            raise CotbalError(
                f"--tasks: expected at least one task with training files; found"
                f" {', '.join(plan.name for plan in ready)}, which have none",
                "no-balanced-task",
            )
        for plan in measured:
            if plan.metric == "box_iou":
                demand_corners(plan, places.out)
        longest = max(longest_answer(plan, places.out) for plan in measured)
        name = task_name(places.raw.resolve().name) or "custom"
        tasks_text = "".join(map(task_yaml, measured))
        return head(name, choices) + tasks_text + settings(model, min(sizes), longest)

    target = Benchmark(known, chosen_tasks(known, tasks), text)
    return benchmark.prepare(target, places, choices, progress)


def _check_metrics(chosen: Mapping[str, str], known: Sequence[TaskPlan]) -> None:
    names = [plan.name for plan in known]
    strange = [name for name in chosen if name not in names]
    if strange:
        raise CotbalError(
            f"--metric: expected {', '.join(names)}; found {', '.join(strange)}", "unknown-task"
        )
    for metric in chosen.values():
        plugins.load("cotbal.metrics", metric)


def _training_records(plan: TaskPlan, out: Path, choices: Choices) -> int:
    """Number of training records; 0 for a task that is only evaluated."""
    splits = done_splits(out, plan.name, choices, plan.version) or []
    return next((split.records for split in splits if split.split == WHOLE), 0)
