"""The mixture: the tasks that are trained together, the units that receive one weight each, and the
tasks that are only evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

TRAIN = "train"  # the split of training records
Choose = Literal["sum", "mean"]


@dataclass(frozen=True)
class Task:
    """One dataset with its own instruction style, validation set and metric.

    Attributes:
        name: unique in the mixture.
        train: file of training records, or None for a task that is only evaluated.
        validation: file of records, or None.
        test: split name -> file of records; empty when the task has no test set.
        metric: name of the metric that feeds the equations (higher is better).
        test_metrics: names of the metrics reported on the test splits.
        instruction: text appended to the first human turn, or None when the records already hold
            it.
        group: name of the group whose weight this task shares, or None.
        balanced: False for a task that takes no part in the probes; if it is trained, its weight is
            the mean, 1.
        choose: how the log-likelihood of an option is summed up over its tokens, for a task whose
            answers are chosen among the options of a record; None where they are generated.
    """

    name: str
    train: Path | None
    validation: Path | None
    test: Mapping[str, Path]
    metric: str
    test_metrics: tuple[str, ...]
    instruction: str | None = None
    group: str | None = None
    balanced: bool = True
    choose: Choose | None = None

    def metrics_of(self, split: str) -> tuple[str, ...]:
        """The metrics that score `validation` or the test split of this name."""
        return (self.metric,) if split == "validation" else self.test_metrics

    @property
    def files(self) -> dict[str, Path]:
        """Split -> file of records: `train` and `validation` if there are any, then the test
        splits.
        """
        files = {TRAIN: self.train, "validation": self.validation, **self.test}
        return {split: path for split, path in files.items() if path is not None}

    @property
    def folder(self) -> Path:
        """The directory of its first file."""
        return next(iter(self.files.values())).parent

    @property
    def unit(self) -> str:
        """The unit that receives the weight of this task: its group, or the task itself."""
        return self.group or self.name


def set_name(task: str, split: str) -> str:
    """The name of one file of records, its answers and scores; no two sets share one."""
    return f"{_without_dots(task)}.{_without_dots(split)}"


def _without_dots(name: str) -> str:
    return name.replace(".", "%2E")  # no name of a recipe holds a %


@dataclass(frozen=True)
class Mixture:
    """The tasks of a recipe, in its order."""

    tasks: tuple[Task, ...]

    def __getitem__(self, name: str) -> Task:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Task]:
        return {task.name: task for task in self.tasks}

    @property
    def trained(self) -> tuple[Task, ...]:
        """The tasks with training data: those that training has weights of."""
        return tuple(task for task in self.tasks if task.train is not None)

    @property
    def only_evaluated(self) -> tuple[Task, ...]:
        """The tasks without training data, which show what training does to other abilities."""
        return tuple(task for task in self.tasks if task.train is None)

    @property
    def balanced(self) -> tuple[Task, ...]:
        """The tasks that take part in the probes."""
        return tuple(task for task in self.tasks if task.balanced)

    @property
    def scored(self) -> tuple[Task, ...]:
        """The tasks with a validation set."""
        return tuple(task for task in self.tasks if task.validation)

    @property
    def units(self) -> tuple[str, ...]:
        """The units that receive a weight, in order of first appearance."""
        return tuple(dict.fromkeys(task.unit for task in self.balanced))

    def members(self, unit: str) -> tuple[Task, ...]:
        """The balanced tasks of one unit."""
        return tuple(task for task in self.balanced if task.unit == unit)

    def unit_of(self, task: str) -> str:
        """The unit that gives `task` its weight."""
        return self[task].unit
