"""The mixture: the tasks that are trained together, and the units that receive one weight each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """One dataset with its own instruction style, validation set and metric.

    Attributes:
        name: unique in the mixture.
        train, validation: files of records.
        test: split name -> file of records; empty when the task has no test set.
        metric: name of the metric that feeds the equations (higher is better).
        test_metrics: names of the metrics reported on the test splits.
        instruction: text appended to the first human turn, or None when the records already hold
            it.
        group: name of the group whose weight this task shares, or None.
        balanced: False for a task that takes no part in the probes and trains with the mean weight,
            1.
    """

    name: str
    train: Path
    validation: Path | None
    test: Mapping[str, Path]
    metric: str
    test_metrics: tuple[str, ...]
    instruction: str | None = None
    group: str | None = None
    balanced: bool = True

    def metrics_of(self, split: str) -> tuple[str, ...]:
        """The metrics that score `validation` or the test split of this name."""
        return (self.metric,) if split == "validation" else self.test_metrics

    @property
    def files(self) -> dict[str, Path]:
        """Split -> file of records: `train`, `validation` if there is one, then the test splits."""
        validation = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train, **validation, **self.test}

    @property
    def unit(self) -> str:
        """The unit that receives the weight of this task: its group, or the task itself."""
        return self.group or self.name


@dataclass(frozen=True)
class Mixture:
    """The tasks that are trained together, in the order of the recipe."""

    tasks: tuple[Task, ...]

    def __getitem__(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)

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
