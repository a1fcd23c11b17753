"""Weights chosen for a goal, and what they are predicted to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cotbal.response.headroom import Headroom
from cotbal.response.lever import WEIGHTS, Lever
from cotbal.response.shapes import PerTask
from cotbal.scores.interval import Interval

MEAN, WORST = "mean", "worst"


@dataclass(frozen=True)
class Guard:
    """A task that must not fall below its floor.

    Attributes:
        floor: smallest change that is accepted, in % of the score, at most 0.
        bound: predicted change minus one standard error at the chosen weights.
    """

    task: str
    floor: float
    bound: float


@dataclass(frozen=True)
class Promise:
    """The predicted gain of the best guarded weights for the goal, in % as `Choice.gain`.

    Attributes:
        gain: at least 0, since equal weights are guarded.
        error: its standard error.
    """

    gain: float
    error: float

    @property
    def counts(self) -> bool:
        """Whether it is more than one standard error."""
        return self.gain > self.error


@dataclass(frozen=True)
class Choice:
    """Weights for a goal, and what they are predicted to do.

    Attributes:
        goal: `mean`, `worst` or task names separated by commas, in the order of the scores.
        counted: the tasks of the goal: those it names, or whose mean or smallest change it is.
        weights: of every task, mean 1.
        best: predicted gain of the best guarded weights; if it does not count, all weights are 1.
        gain: predicted change of the goal with these weights, in % of the scores at equal weights;
            of `worst` that of the task with the smallest, or of the lowest score in % of
            single-task scores.
        changes: predicted change of every scored task, averaged over many runs.
        guards: the guarded tasks.
        unguarded: tasks that are not measurable with these trials and have no floor, and why.
        not_lowered: tasks (or groups) whose weight was not lowered for that reason.
        uncertain: the same tasks where a floor names them: guarded, and why their predicted change
            is uncertain.
        headroom: what weights can do for the mean over the tasks that count.
        max_step: largest number of doublings that was allowed.
        warnings: what to know before using the weights.
        single_task: scores of the models trained on one task alone that `worst` compares with;
            empty for all other goals, and where there are none.
        lever: what the trials differed in; `weights` then multiply these.
    """

    goal: str
    counted: tuple[str, ...]
    weights: Mapping[str, float]
    best: Promise
    gain: Interval
    changes: Mapping[str, Interval]
    guards: tuple[Guard, ...]
    unguarded: Mapping[str, str]
    not_lowered: tuple[str, ...]
    uncertain: Mapping[str, str]
    headroom: Headroom
    max_step: float
    warnings: tuple[str, ...]
    single_task: Mapping[str, float] = field(default_factory=dict)
    lever: Lever = WEIGHTS

    @property
    def keep_equal(self) -> bool:
        """Whether the best guarded weights gain too little; the weights are then all 1."""
        return not self.best.counts

    @property
    def sentence(self) -> str:
        """What the weights, or sampling ratios, are predicted to do for the goal."""
        lever = self.lever.several
        if self.keep_equal:
            return (
                f"Keep equal {lever}: the best guarded {lever} are predicted to raise"
                f" {self._goal_words} by {self.best.gain:.2f} %, which is not more than one"
                f" standard error ({self.best.error:.2f} %)."
            )
        gain = self.gain
        return (
            f"These {lever} change {self._goal_words} by {gain.value:+z.1f} %"
            f" [{gain.low:+z.1f}, {gain.high:+z.1f}]."
        )

    @property
    def _goal_words(self) -> str:
        words = {MEAN: "the mean over tasks", WORST: "the task that gains least"}
        if self.single_task:
            words[WORST] = "the lowest score, relative to single-task models,"
        several = "the mean of " if "," in self.goal else ""
        return words.get(self.goal, several + self.goal.replace(",", " and "))

    def ratios(self, reference: PerTask | None) -> dict[str, float] | None:
        """Sampling ratios that do the same, where trials differed in them; their sum is 1."""
        if reference is None:
            return None
        weights = np.array(list(self.weights.values()))
        sampled = weights * reference
        ratios = sampled / sampled.sum()
        return dict(zip(self.weights, ratios.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON; changes in %."""
        return {
            "goal": self.goal,
            "sentence": self.sentence,
            "counted": list(self.counted),
            "lever": self.lever.name,
            "weights": dict(self.weights),
            "keep_equal": self.keep_equal,
            "gain": self.gain.to_json(),
            "changes": {task: change.to_json() for task, change in self.changes.items()},
            "best_guarded": {"gain": self.best.gain, "standard_error": self.best.error},
            "guards": [vars(guard) for guard in self.guards],
            "not_guarded": dict(self.unguarded),
            "not_lowered": list(self.not_lowered),
            "guarded_but_uncertain": dict(self.uncertain),
            "headroom": self.headroom.to_json(),
            "max_step": self.max_step,
            "single_task": dict(self.single_task),
            "warnings": list(self.warnings),
        }
