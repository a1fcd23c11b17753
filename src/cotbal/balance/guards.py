"""The guard against meaningless weights: which denominators of Eq. 3 and 9 carry information, and
what happens if not.

The rule. A contribution to a task whose own gain cannot be told from zero is not a number: the
task's column is left out of every outward mean, and its inward part takes the mean weight, 1. A
difficulty whose denominator cannot be told from zero, or whose score is no better than a constant
answer, is not a number either: the intra part of that task takes the mean weight, 1. The softmax of
each part runs over the tasks that are left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cotbal.balance.estimate import Identified, Places
from cotbal.balance.uncertainty import cluster_sums, interval
from cotbal.scores.matrix import ScoreMatrix

SATURATED = 0.95  # share of the metric's maximum
ROUNDING = 1e-9  # relative: a difference below this is arithmetic, not learning
# relative to the own score: below it, a table without samples cannot tell a gain from noise
BARE_GAIN = 0.01
LEFT_OUT = "nobody is credited for helping it and its inward part takes the mean weight, 1"


@dataclass(frozen=True)
class Flag:
    """One thing that a reader must know before trusting a number.

    Attributes:
        task: the task it concerns.
        kind: `no_gain`, `unclear_gain`, `saturated`, `constant_answer` or `no_score`.
        message: the runs, their scores and intervals, and the rule that was applied.
    """

    task: str
    kind: str
    message: str


@dataclass(frozen=True)
class Evidence:
    """Scores of one task in a run that saw its large portion and in one that did not (NaN bounds: a
    bare table).
    """

    task: str
    own_run: str
    small_run: str
    column: Float[np.ndarray, " run"]
    own: float
    small: float
    own_interval: tuple[float, float]
    small_interval: tuple[float, float]
    gain_interval: tuple[float, float]
    maximum: float
    constant: float
    above_constant_low: float

    @property
    def gain(self) -> float:
        """Denominator of Eq. 3."""
        return self.own - self.small

    @property
    def scores(self) -> str:
        """Both runs, both scores and their intervals, in words."""
        return (
            f"`{self.own_run}` scored {_shown(self.own, self.own_interval)} and `{self.small_run}`"
            f" {_shown(self.small, self.small_interval)}, gain"
            f" {_shown(self.gain, self.gain_interval)}"
        )


def guard(
    matrix: ScoreMatrix, places: Places, resampled: Float[np.ndarray, "resample run task"] | None
) -> tuple[list[Flag], Identified]:
    """What must be flagged, and which denominators are left."""
    tasks = range(len(matrix.tasks))
    givers = [
        _evidence(matrix, j, int(places.givers[places.unit_of[j]]), places.baseline, resampled)
        for j in tasks
    ]
    owners = [
        _evidence(matrix, j, int(places.own[j]), int(places.small[j]), resampled) for j in tasks
    ]
    of_gain = [_judge_gain(e, _judge_score(e)) for e in givers]
    of_score = [_judge_score(e) for e in owners]
    known = Identified(
        np.array([not flags for flags in of_gain]), np.array([not flags for flags in of_score])
    )
    flags = [
        flag for pair in zip(of_score, of_gain, strict=True) for found in pair for flag in found
    ]
    # Where both denominators come from the same runs, the flag that spoils both is raised once.
    return list({(flag.task, flag.kind): flag for flag in reversed(flags)}.values())[::-1], known


def _evidence(
    matrix: ScoreMatrix,
    j: int,
    own: int,
    small: int,
    resampled: Float[np.ndarray, "resample run task"] | None,
) -> Evidence:
    task, column = matrix.tasks[j], matrix.values[:, j]
    unknown = (float("nan"), float("nan"))
    own_interval = small_interval = gain_interval = unknown
    if resampled is not None:
        own_interval = _pair(resampled[:, own, j])
        small_interval = _pair(resampled[:, small, j])
        gain_interval = _pair(resampled[:, own, j] - resampled[:, small, j])
    samples = matrix.samples.get(task)
    constant = samples.constant if samples else None
    return Evidence(
        task,
        matrix.runs[own],
        matrix.runs[small],
        column,
        float(column[own]),
        float(column[small]),
        own_interval,
        small_interval,
        gain_interval,
        samples.maximum if samples else float("inf"),
        float("-inf") if constant is None else float(np.mean(constant)),
        float("inf") if constant is None else _low_above_constant(matrix, task, own),
    )


def _pair(values: np.ndarray) -> tuple[float, float]:
    low, high = interval(values)
    return float(low), float(high)


def _low_above_constant(matrix: ScoreMatrix, task: str, own: int) -> float:
    """Lower bound of the own run's lead over the best constant answer (normal approximation over
    clusters).
    """
    samples = matrix.samples[task]
    assert samples.constant is not None
    sums, sizes = cluster_sums((samples.values[own] - samples.constant)[None], samples.clusters)
    lead = sums.sum() / sizes.sum()
    deviation = np.sqrt(np.sum((sums[0] - lead * sizes) ** 2)) / sizes.sum()
    return float(lead - 1.96 * deviation)


def _judge_score(e: Evidence) -> list[Flag]:
    """Whether the own score, the denominator of the difficulty, is a score at all."""
    if e.own <= ROUNDING or e.own_interval[0] <= 0:
        why = f"its own run `{e.own_run}` learnt nothing that can be told from zero: {e.scores}"
        return [
            Flag(e.task, "no_score", f"{e.task}: {why}; {LEFT_OUT}, and so does its intra part.")
        ]
    if e.above_constant_low <= 0:
        why = (
            "its own run is not distinguishable from always giving one constant answer"
            f" ({e.constant:.3f}): {e.scores}"
        )
        return [
            Flag(
                e.task,
                "constant_answer",
                f"{e.task}: {why}; {LEFT_OUT}, and so does its intra part.",
            )
        ]
    return []


def _judge_gain(e: Evidence, flags: list[Flag]) -> list[Flag]:
    """Whether the gain, the denominator of the contribution, is more than noise; adds to what is
    known already.
    """
    if np.nanmin(e.column) >= SATURATED * e.maximum:
        why = (
            f"every run scores at least {SATURATED:.0%} of the maximum, so differences are noise:"
            f" {e.scores}"
        )
        flags.append(Flag(e.task, "saturated", f"{e.task}: {why}; {LEFT_OUT}."))
    if e.gain <= ROUNDING * max(abs(e.own), abs(e.small)):
        why = f"full data did not raise its score, so Eq. 3 has no denominator: {e.scores}"
        flags.append(Flag(e.task, "no_gain", f"{e.task}: {why}; {LEFT_OUT}."))
    elif e.gain_interval[0] <= 0 or (
        np.isnan(e.gain_interval[0]) and e.gain < BARE_GAIN * abs(e.own)
    ):
        why = (
            "the gain from full data is not distinguishable from zero, so Eq. 3 would divide by"
            f" noise: {e.scores}"
        )
        flags.append(Flag(e.task, "unclear_gain", f"{e.task}: {why}; {LEFT_OUT}."))
    return flags


def _shown(value: float, bounds: tuple[float, float]) -> str:
    return (
        f"{value:.3f}" if np.isnan(bounds[0]) else f"{value:.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}]"
    )
