"""The guard against meaningless weights: which denominators of Eq. 3 and 9 carry information, and what happens if not.

The rule. A contribution to a task whose own gain cannot be told from zero is not a number: the task's column is left
out of every outward mean, and its inward part takes the mean weight, 1. A difficulty whose denominator cannot be
told from zero, or whose score is no better than a constant answer, is not a number either: the intra part of that
task takes the mean weight, 1. The softmax of each part runs over the tasks that are left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from cotbal.balance.uncertainty import cluster_sums, interval
from cotbal.scores import ScoreMatrix

SATURATED = 0.95  # share of the metric's maximum
ROUNDING = 1e-9  # relative: a difference below this is arithmetic, not learning
BARE_GAIN = 0.01  # relative to the own score: below it, a table without samples cannot tell a gain from noise


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


SPOILS_CONTRIBUTION = frozenset({"no_gain", "unclear_gain", "saturated", "constant_answer", "no_score"})
SPOILS_DIFFICULTY = frozenset({"constant_answer", "no_score"})


@dataclass(frozen=True)
class Evidence:
    """Scores of one task in its own probe and in the mini probe, with intervals (NaN for a bare table)."""

    task: str
    own_run: str
    column: Float[np.ndarray, " run"]
    own: float
    mini: float
    own_interval: tuple[float, float]
    mini_interval: tuple[float, float]
    gain_interval: tuple[float, float]
    maximum: float
    constant: float
    above_constant_low: float

    @property
    def gain(self) -> float:
        """Denominator of Eq. 3."""
        return self.own - self.mini


def gather_evidence(
    matrix: ScoreMatrix,
    own: Int[np.ndarray, " task"],
    mini: int,
    resampled: Float[np.ndarray, "resample run task"] | None,
) -> list[Evidence]:
    """What is known about each task's denominators; `own` and `mini` are row indices of the score matrix."""
    return [_evidence(matrix, j, int(own[j]), mini, resampled) for j in range(len(matrix.tasks))]


def _evidence(
    matrix: ScoreMatrix, j: int, own: int, mini: int, resampled: Float[np.ndarray, "resample run task"] | None
) -> Evidence:
    task, column = matrix.tasks[j], matrix.values[:, j]
    unknown = (float("nan"), float("nan"))
    own_interval = mini_interval = gain_interval = unknown
    if resampled is not None:
        own_interval = _pair(resampled[:, own, j])
        mini_interval = _pair(resampled[:, mini, j])
        gain_interval = _pair(resampled[:, own, j] - resampled[:, mini, j])
    samples = matrix.samples.get(task)
    constant = samples.constant if samples else None
    return Evidence(
        task, matrix.runs[own], column, float(column[own]), float(column[mini]),
        own_interval, mini_interval, gain_interval,
        samples.maximum if samples else float("inf"),
        float("-inf") if constant is None else float(np.mean(constant)),
        float("inf") if constant is None else _low_above_constant(matrix, task, own),
    )  # fmt: skip


def _pair(values: np.ndarray) -> tuple[float, float]:
    low, high = interval(values)
    return float(low), float(high)


def _low_above_constant(matrix: ScoreMatrix, task: str, own: int) -> float:
    """Lower bound of the own probe's lead over the best constant answer (normal approximation over clusters)."""
    samples = matrix.samples[task]
    assert samples.constant is not None
    sums, sizes = cluster_sums((samples.values[own] - samples.constant)[None], samples.clusters)
    lead = sums.sum() / sizes.sum()
    deviation = np.sqrt(np.sum((sums[0] - lead * sizes) ** 2)) / sizes.sum()
    return float(lead - 1.96 * deviation)


def judge(evidence: Evidence) -> list[Flag]:
    """The flags of one task; none means that its denominators carry information."""
    e = evidence
    scores = (
        f"`{e.own_run}` scored {_shown(e.own, e.own_interval)} and `mini` {_shown(e.mini, e.mini_interval)}, "
        f"gain {_shown(e.gain, e.gain_interval)}"
    )
    left_out = "nobody is credited for helping it and its inward part takes the mean weight, 1"
    flags = []
    if e.own <= ROUNDING or e.own_interval[0] <= 0:
        text = (
            f"its own probe learnt nothing that can be told from zero: {scores}; {left_out}, and so does its intra part"
        )
        flags.append(Flag(e.task, "no_score", f"{e.task}: {text}."))
    elif e.above_constant_low <= 0:
        text = (
            f"its own probe is not distinguishable from always giving one constant answer ({e.constant:.3f}): {scores}"
        )
        flags.append(Flag(e.task, "constant_answer", f"{e.task}: {text}; {left_out}, and so does its intra part."))
    if np.min(e.column) >= SATURATED * e.maximum:
        text = f"every probe scores at least {SATURATED:.0%} of the maximum, so differences are noise: {scores}"
        flags.append(Flag(e.task, "saturated", f"{e.task}: {text}; {left_out}."))
    if e.gain <= ROUNDING * max(abs(e.own), abs(e.mini)):
        text = f"full data did not raise its score, so Eq. 3 has no denominator: {scores}"
        flags.append(Flag(e.task, "no_gain", f"{e.task}: {text}; {left_out}."))
    elif e.gain_interval[0] <= 0 or (np.isnan(e.gain_interval[0]) and e.gain < BARE_GAIN * abs(e.own)):
        text = f"the gain from full data is not distinguishable from zero, so Eq. 3 would divide by noise: {scores}"
        flags.append(Flag(e.task, "unclear_gain", f"{e.task}: {text}; {left_out}."))
    return flags


def _shown(value: float, bounds: tuple[float, float]) -> str:
    return f"{value:.3f}" if np.isnan(bounds[0]) else f"{value:.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}]"


def identified(tasks: tuple[str, ...], flags: list[Flag], spoils: frozenset[str]) -> Bool[np.ndarray, " task"]:
    """True for the tasks that no flag of these kinds concerns."""
    spoilt = {flag.task for flag in flags if flag.kind in spoils}
    return np.array([task not in spoilt for task in tasks], dtype=bool)
