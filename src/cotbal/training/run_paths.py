"""File names of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal.recipe.mixture import set_name

# What a line of `RunPaths.training` has for every task.
BY_TASK = ("task_losses", "task_tokens", "weights")


class Below:
    """A path below the `root` of the object that it is an attribute of."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Path:
        path: Path = instance.root / self.name
        return path


@dataclass(frozen=True)
class RunPaths:
    """The files of one run (a probe, a final training, or a fraction of the curve)."""

    root: Path

    job = Below("job.json")  # what to do, and the identity of the run
    log = Below("log.txt")  # output of the worker
    lock = Below("lock")  # held by the worker of this run
    progress = Below("progress.json")  # of the worker
    training = Below("training.jsonl")  # losses, one line every few optimizer steps
    checkpoint = Below("checkpoint")  # the trained model
    partial = Below("partial")  # checkpoints inside the training, to resume from
    trained = Below("trained.json")  # written after the trained model is on disk
    answers = Below("answers")  # of an evaluation that is not finished
    queue = Below("answers/queue.json")  # of questions that other processes may answer too
    outcome = Below("outcome.json")  # written last: a run with it is done
    failure = Below("failure.json")  # why the run failed; removed when it is retried

    def generations(self, task: str, split: str) -> Path:
        """Answers of the trained model on one split of one task."""
        return self._of_set("generations", task, split, "jsonl")

    def scores(self, task: str, split: str) -> Path:
        """Per-sample scores of these answers."""
        return self._of_set("scores", task, split, "json")

    def _of_set(self, folder: str, task: str, split: str, kind: str) -> Path:
        return self.root / folder / f"{set_name(task, split)}.{kind}"

    @property
    def done(self) -> bool:
        """Whether the outcome was written."""
        return self.outcome.exists()
