"""The guard against meaningless weights: which denominators of Eq. 3 and 9 are more than noise, and
what happens if not.

- Contributions to a task (Eq. 3) are not identified if its own gain may be zero. Its column is left
  out of every outward mean, and its inward part is the mean weight, 1.
- The difficulty of a task (Eq. 9) is not identified if its score may be zero, or no better than a
  constant answer. Its intra part is the mean weight, 1.

The softmax of each part runs over the remaining tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from cotbal.balance.probes import Probes
from cotbal.balance.uncertainty import Draws, cluster_sums
from cotbal.scores.interval import HALF_WIDTH, Interval, interval_of_draws
from cotbal.scores.matrix import Samples, ScoreMatrix

SATURATED = 0.95  # share of the metric's maximum
ROUNDING = 1e-9  # relative: a smaller difference is arithmetic, not learning
BARE_GAIN = 0.01  # share of the score: a smaller gain may be noise, in a table without samples
SPOILS_SCORE = ("no_score", "constant_answer")  # kinds of flags that concern Eq. 9 too


@dataclass(frozen=True)
class Flag:
    """A reason not to trust a number of a task.

    Attributes:
        task: the task it concerns.
        kind: `no_gain`, `unclear_gain`, `saturated`, `constant_answer` or `no_score`.
        message: the runs, their scores and intervals, and the rule that was applied.
    """

    task: str
    kind: str
    message: str


def guard(probes: Probes, draws: Draws | None) -> tuple[tuple[Flag, ...], Probes]:
    """The flags, and the probes with the tasks that Eq. 3 and 9 may use."""
    matrix = probes.scores
    flags: dict[tuple[str, str], Flag] = {}
    has_gain = probes.has_gain.copy()
    has_score = probes.has_score.copy()
    for j in range(len(matrix.tasks)):
        giver = int(probes.givers[probes.unit_of_task[j]])
        full, mini = int(probes.full[j]), int(probes.mini[j])
        rows = [full, mini, giver, probes.baseline]
        drawn = matrix.values[None, rows, j]
        if draws is not None:
            drawn = np.concatenate([drawn, draws(j, rows)])
        of_score = _check(matrix, j, rows[:2], drawn[:, :2])
        score_flags = [flag for flag in of_score if flag.kind in SPOILS_SCORE]
        has_score[j] = not score_flags
        gain_flags = _check(matrix, j, rows[2:], drawn[:, 2:])
        has_gain[j] = not gain_flags
        # Both denominators often come from the same runs: what spoils both is flagged once.
        for flag in (*score_flags, *gain_flags):
            flags.setdefault((flag.task, flag.kind), flag)
    return tuple(flags.values()), replace(probes, has_gain=has_gain, has_score=has_score)


def _check(
    matrix: ScoreMatrix, task: int, rows: Sequence[int], drawn: Float[np.ndarray, "draw 2"]
) -> list[Flag]:
    """Everything that spoils the gain of a task from the second row to the first; the first draw is
    the estimate.
    """
    name = matrix.tasks[task]
    samples = matrix.samples.get(name)
    full, mini = rows
    of_full, of_mini = drawn.T
    score = interval_of_draws(of_full)
    small = interval_of_draws(of_mini)
    gain = interval_of_draws(of_full - of_mini)
    reasons = {
        **_score_reasons(score, samples, full),
        **_saturation(matrix.values[:, task], samples),
        **_gain_reasons(gain, score, small),
    }
    large_run, small_run = matrix.runs[full], matrix.runs[mini]
    scores = f"`{large_run}` scored {score} and `{small_run}` {small}, gain {gain}"
    flags = []
    for kind, reason in reasons.items():
        message = f"{name}: {reason}: {scores}; {_consequence(kind)}."
        flags.append(Flag(name, kind, message))
    return flags


def _score_reasons(score: Interval, samples: Samples | None, run: int) -> dict[str, str]:
    """Why the score of a run may mean nothing, by kind of flag."""
    if score.value <= ROUNDING or score.low <= 0:
        return {"no_score": "the score of its own run may be zero or negative"}
    if samples is None or samples.constant is None or _lead(samples, run).low > 0:
        return {}
    constant = np.mean(samples.constant)
    return {
        "constant_answer": (
            f"its own run may be no better than always giving one constant answer ({constant:.3f})"
        )
    }


def _lead(samples: Samples, run: int) -> Interval:
    """Lead of a run over the best constant answer (normal approximation over clusters)."""
    assert samples.constant is not None
    differences = samples.values[run] - samples.constant
    sums, sizes = cluster_sums(differences[None], samples.clusters)
    count = sizes.sum()
    lead = float(sums.sum() / count)
    residuals = sums[0] - lead * sizes
    spread = np.sqrt(np.sum(residuals**2))
    error = float(spread / count)
    half_width = HALF_WIDTH * error
    return Interval(lead, lead - half_width, lead + half_width)


def _saturation(column: Float[np.ndarray, " run"], samples: Samples | None) -> dict[str, str]:
    if samples is None or np.nanmin(column) < SATURATED * samples.maximum:
        return {}
    return {
        "saturated": (
            f"every run scores at least {100 * SATURATED:.0f} % of the maximum, so differences"
            " are noise"
        )
    }


def _gain_reasons(gain: Interval, score: Interval, small: Interval) -> dict[str, str]:
    """Why the gain may be noise, by kind of flag."""
    larger = max(abs(score.value), abs(small.value))
    if gain.value <= ROUNDING * larger:
        return {"no_gain": "full data did not raise its score, so Eq. 3 has no denominator"}
    smallest = BARE_GAIN * abs(score.value)
    is_noise = gain.low <= 0 if gain.has_bounds else gain.value < smallest
    if is_noise:
        reason = "the gain from full data may be zero, so Eq. 3 would divide by noise"
        return {"unclear_gain": reason}
    return {}


def _consequence(kind: str) -> str:
    rule = "no unit gets credit for helping it, and its inward part takes the mean weight, 1"
    if kind in SPOILS_SCORE:
        return f"{rule}; so does its intra part"
    return rule
