"""The evaluation sets of a run, and the questions in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from cotbal.data.batches.collate import Row
from cotbal.data.batches.processors import load_processor
from cotbal.data.batches.questions import collator_for
from cotbal.data.batches.row_lengths import RowLengths
from cotbal.data.files import as_written, default_cache
from cotbal.data.reading.record import Record
from cotbal.data.reading.records import open_records
from cotbal.data.sampling import kept_records
from cotbal.jobs.kept_answers import Key
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.unchanged import Used
from cotbal.recipe.mixture import Task, set_name
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import Run
from cotbal.training.run_paths import RunPaths


@dataclass(frozen=True)
class EvaluationSet:
    """One evaluation set of a run, and the records of it that are answered.

    Attributes:
        task: whose set it is.
        used: the file with the numbers of the records.
    """

    task: Task
    used: Used

    @property
    def split(self) -> str:
        """`validation`, or the name of a test split."""
        return self.used.split

    @property
    def size(self) -> int:
        """Number of questions."""
        return len(self.used.indices)

    @property
    def name(self) -> str:
        """As files of answers are called."""
        return set_name(self.task.name, self.split)

    @cached_property
    def records(self) -> list[Record]:
        """The records that are answered, in the order of the file."""
        return [self.used.records[i] for i in self.used.indices.tolist()]

    @property
    def rows(self) -> list[Row]:
        """The same as questions of the task."""
        task = self.task
        return [Row(record, task.name, task.instruction, task.choose) for record in self.records]


def evaluation_sets(recipe: Recipe, run: Run) -> list[EvaluationSet]:
    """The validation sets and test splits that a run answers."""
    sets = []
    for name in run.validation:
        task = recipe.mixture[name]
        assert task.validation is not None  # checked with the recipe
        sets.append(EvaluationSet(task, used_records(recipe, name, "validation", task.validation)))
    for name in run.test:
        task = recipe.mixture[name]
        for split, path in task.test.items():
            sets.append(EvaluationSet(task, used_records(recipe, name, split, path)))
    return sets


def recipe_and_run(job: Any, path: Path) -> tuple[Recipe, Run]:
    """What a job file is about; probes may have settings of their own.

    Raises:
        RunError: the content of the file has another form.
    """
    with as_written(path):
        root, kind, run = RunDir(Path(job["root"])), job["kind"], Run.from_json(job["run"])
    recipe = load_recipe(root.recipe)
    return (recipe.for_probes if kind == "probe" else recipe), run


def answering_checkpoint(recipe: Recipe, run: Run, paths: RunPaths) -> str:
    """The trained model; the base checkpoint for a run that trains nothing."""
    return str(paths.checkpoint) if run.portions else recipe.checkpoint


def questions(sets: Sequence[EvaluationSet]) -> dict[Key, Row]:
    """The questions of these sets, in their order."""
    rows: dict[Key, Row] = {}
    for one in sets:
        rows |= {(one.name, number): row for number, row in enumerate(one.rows)}
    return rows


def known_answers(keys: Iterable[Key], kept: Mapping[Key, str]) -> dict[int, str]:
    """Of these questions the answers that were kept, by index of the question."""
    return {index: kept[key] for index, key in enumerate(keys) if key in kept}


def used_records(recipe: Recipe, task: str, split: str, path: Path) -> Used:
    """The records of a file that are answered."""
    records = open_records(path, default_cache(), evaluation=True)
    policy = recipe.file.on_missing_image
    rejected = partial(_rejected, recipe)
    kept, _ = kept_records(
        records, recipe.images, policy, rejected=rejected, confined=recipe.confined
    )
    return Used(task, split, records, kept)


def _rejected(recipe: Recipe, names: Sequence[str]) -> dict[str, str]:
    """Of these images those that the model's processor cannot process, as they were planned."""
    processor = load_processor(recipe.checkpoint, recipe.model.remote_code)
    collator = collator_for(processor, recipe.images, recipe.model.max_length)
    return RowLengths(collator).rejected(names)
