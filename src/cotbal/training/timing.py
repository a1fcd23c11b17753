"""Time a few optimizer steps of a training that is not kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, set_seed

from cotbal.data.batches.order import Mixed
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run
from cotbal.training.memory import memory_mib, peak_memory_mib
from cotbal.training.train import Log, build_trainer


@dataclass(frozen=True)
class Timed:
    """Which steps are timed: `steps` of them, after `untimed` others."""

    untimed: int
    steps: int


@dataclass(frozen=True)
class StepTimes:
    """What a process measured.

    Attributes:
        seconds: of every timed step, from the end of the step before.
        begin_seconds: of the untimed steps, with the checks of a training and with what is
            compiled.
        waiting: fraction of the timed steps in which the training waited for its batches.
        losses: of the untimed steps, means over the valid tokens.
        peak_mib: of the GPU if there is one, otherwise of the process.
        memory_mib: of the GPU, or of the machine.
    """

    seconds: tuple[float, ...]
    begin_seconds: float
    waiting: float
    losses: tuple[float, ...]
    peak_mib: int
    memory_mib: int

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def time_steps(recipe: Recipe, run: Run, rows: Mixed, log: Log, timed: Timed) -> StepTimes:
    """Train some optimizer steps with equal weights and time the last of them.

    Args:
        rows: of at least so many steps, in the order in which they are trained.
        log: observes the training; nothing else of it is written.
    """
    set_seed(run.seed)
    trainer = build_trainer(recipe, run, rows, None, log)
    clock = _Clock(timed.untimed + timed.steps, trainer)
    trainer.add_callback(clock)
    trainer.train()
    moments = clock.moments
    seconds = tuple(moments[i + 1] - moments[i] for i in range(len(moments) - 1))
    counted = seconds[timed.untimed :]
    return StepTimes(
        seconds=counted,
        begin_seconds=sum(seconds[: timed.untimed]),
        waiting=sum(clock.waits[timed.untimed :]) / sum(counted),
        losses=tuple(_mean_loss(line) for line in log.lines[: timed.untimed]),
        peak_mib=peak_memory_mib(),
        memory_mib=memory_mib(),
    )


def _mean_loss(line: Mapping[str, Any]) -> float:
    """Of a line of the log, over the valid tokens of all tasks."""
    counts: Mapping[str, int] = line["task_tokens"]
    total = sum(line["task_losses"][task] * count for task, count in counts.items())
    return total / sum(counts.values())


class _Clock(TrainerCallback):
    """Notes when steps end, and ends the training after the last timed one.

    Attributes:
        moments: of the begin, and of the end of every step.
        waits: seconds until the batches of a step were there.
    """

    def __init__(self, steps: int, trainer: Any) -> None:
        self.moments: list[float] = []
        self.waits: list[float] = []
        self._steps = steps
        self._batches = trainer.get_batch_samples
        trainer.get_batch_samples = self._timed_batches

    def _timed_batches(self, *arguments: Any, **more: Any) -> Any:
        begun = time.perf_counter()
        batches = self._batches(*arguments, **more)
        self.waits.append(time.perf_counter() - begun)
        return batches

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The first step begins."""
        self.moments.append(time.perf_counter())

    def on_step_end(self, _: Any, __: TrainerState, control: TrainerControl, **___: Any) -> None:
        """The step has ended: the trainer has read its losses, so a GPU has finished it."""
        self.moments.append(time.perf_counter())
        control.should_save = False
        control.should_training_stop = len(self.moments) > self._steps
