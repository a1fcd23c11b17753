"""Figures of the current optimizer step, and sums over the steps since the last line of the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cotbal.errors import RunError
from cotbal.training.run_paths import BY_TASK


@dataclass(frozen=True)
class Step:
    """What is known of an optimizer step before its forward pass, and the sums of its losses.

    Attributes:
        counts: valid tokens of every task, over all ranks and micro-batches.
        masked_rows: rows without a valid token, over the same.
        weights: of every task, as this step uses them.
        coefficients: `c_t` of every task, see `cotbal.loss`.
        micro_batches: of this rank.
        sums: summed unweighted loss of every task on this rank; grows with every micro-batch.
    """

    counts: Tensor
    masked_rows: int
    weights: Tensor
    coefficients: Tensor
    micro_batches: int
    sums: Tensor

    @classmethod
    def none(cls, tasks: int) -> Step:
        """Before the first step."""
        nothing = torch.zeros(tasks)
        return cls(nothing.long(), 0, nothing, nothing, 1, torch.zeros(tasks))


class TaskLosses:
    """Unweighted losses since the last line of the log; `tasks` in the order of their ids."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = tuple(tasks)
        self._begin()

    def _begin(self) -> None:
        self._sums = torch.zeros(len(self.tasks))
        self._counts = torch.zeros(len(self.tasks), dtype=torch.long)
        self._weighted_tokens = 0.0
        self._masked_rows = 0

    def add(self, sums: Tensor, counts: Tensor, weights: Tensor, masked_rows: int) -> None:
        """Add an optimizer step."""
        self._sums += sums
        self._counts += counts
        self._weighted_tokens += float((weights * counts).sum())
        self._masked_rows += masked_rows

    def take(self, weights: Tensor) -> dict[str, float]:
        """The fields of `TaskWeightedTrainer.log`, then reset; `weights`: of the last step."""
        line: dict[str, float] = {}
        for i, task in enumerate(self.tasks):
            if self._counts[i] > 0:
                mean = self._sums[i] / self._counts[i]
                line[f"task_losses/{task}"] = float(mean)
                line[f"task_tokens/{task}"] = int(self._counts[i])
            line[f"weights/{task}"] = float(weights[i])
        line["mean_weight"] = self._weighted_tokens / max(1, int(self._counts.sum()))
        line["masked_rows"] = self._masked_rows
        self._begin()
        return line


def by_task(logs: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the log with a mapping of tasks in place of `task_losses/vqa`, and so on."""
    if "mean_weight" not in logs:
        return dict(logs)
    line: dict[str, Any] = {group: {} for group in BY_TASK}
    for key, value in logs.items():
        group, _, task = key.partition("/")
        if group in BY_TASK:
            line[group][task] = value
        else:
            line[key] = value
    return line


def diverged(
    what: str, number: int, tasks: Sequence[str], sums: Tensor, counts: Tensor
) -> RunError:
    """The error of an optimizer step whose loss or gradient is not finite.

    Args:
        sums: of the losses of every task, over all ranks; where all are finite, every task with
            tokens may be the cause.
        counts: valid tokens of every task.
    """
    broken = ~sums.isfinite()
    if not broken.any():
        broken = counts.cpu() > 0
    named = [task for task, chosen in zip(tasks, broken.tolist(), strict=True) if chosen]
    return RunError(
        f"the training diverged: optimizer step {number} has the {what}, with tokens of"
        f" {', '.join(named)}; expected a finite number. Lower optimization.learning_rate, or look"
        " at the records of these tasks",
        "diverged",
    )
