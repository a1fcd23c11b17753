"""Score against training amount (Fig. 1b): what a run directory holds of it, with joint intervals
over all amounts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.balance.uncertainty import interval, resample_scores
from cotbal.recipe.runs import place_on_curve, portion_size
from cotbal.report.comparison import RESAMPLES, SEED, Scores
from cotbal.report.contents import Contents
from cotbal.scores.matrix import Samples, ScoreMatrix, mean_matrix

SPLIT = "validation"


@dataclass(frozen=True)
class Measured:
    """A number and its 95 % interval (NaN where it has none)."""

    value: float
    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval."""
        return self.low, self.high


@dataclass(frozen=True)
class TaskCurve:
    """Scores of one task; an amount is a share of its training records.

    Attributes:
        metric, maximum: what the scores are, and the most that they can be.
        records: amount -> training records of the task; empty where they are not known.
        mixture: amount -> score of the model that saw this amount of every balanced task.
        alone: amount -> score of the model that saw this amount of the task and nothing else.
        reached: score at the smallest amount over that at the largest, in the mixture; None with a
            single amount, and where the score at the largest cannot be told from 0.
    """

    task: str
    metric: str
    maximum: float
    records: Mapping[Fraction, int]
    mixture: Mapping[Fraction, Measured]
    alone: Mapping[Fraction, Measured]
    reached: Measured | None


@dataclass(frozen=True)
class AmountCurves:
    """Fig. 1b of a run directory.

    Attributes:
        amounts: ascending.
        tasks: one curve a balanced task.
        matrices: training seed -> score of every run on every task, NaN where a run did not answer.
        left_out: finished runs that are not shown, because not every seed shown has them.
    """

    amounts: tuple[Fraction, ...]
    tasks: tuple[TaskCurve, ...]
    matrices: Mapping[int, ScoreMatrix]
    left_out: tuple[str, ...]

    @property
    def mean(self) -> ScoreMatrix:
        """Mean over seeds."""
        return mean_matrix(list(self.matrices.values()))


def amount_curves(contents: Contents) -> AmountCurves | None:
    """The curves of a run directory, on seeds that have the same runs; None where no run of them is
    done.
    """
    own = contents.plan.get("seed", 0)
    done: dict[int, dict[str, Scores]] = {}
    for run in contents.curve:
        if run.status == "done":
            done.setdefault(own if run.seed is None else run.seed, {})[run.name] = run.scores
    if not done or not contents.balanced:
        return None
    seeds, names = _fullest(done, contents.balanced)
    matrices = {
        seed: _matrix({name: done[seed][name] for name in names}, contents) for seed in seeds
    }
    mean, drawn = (
        mean_matrix(list(matrices.values())),
        resample_scores(list(matrices.values()), RESAMPLES, SEED),
    )
    draws = np.concatenate([mean.values[None], drawn])  # the first is what was seen
    tasks = tuple(_task_curve(contents, mean, j, draws[..., j]) for j in range(len(mean.tasks)))
    shown = {(seed, name) for seed in seeds for name in names}
    left_out = [
        f"{name}, seed {seed}"
        for seed, runs in done.items()
        for name in runs
        if (seed, name) not in shown
    ]
    amounts = tuple(sorted({place_on_curve(name)[1] for name in names}))
    return AmountCurves(amounts, tasks, matrices, tuple(left_out))


def _fullest(
    done: Mapping[int, Mapping[str, Scores]], tasks: Sequence[str]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The runs of one seed, and every seed that has them all: as many seeds times runs as there
    are.
    """
    groups = [
        (tuple(s for s in sorted(done) if _has(done[s], runs)), tuple(runs))
        for runs in done.values()
    ]
    seeds, names = max(groups, key=lambda group: len(group[0]) * len(group[1]))

    def order(name: str) -> tuple[int, Fraction]:
        task, amount = place_on_curve(name)
        return (tasks.index(task) if task in tasks else -1), amount

    return seeds, tuple(sorted(names, key=order))


def _has(other: Mapping[str, Scores], runs: Mapping[str, Scores]) -> bool:
    """Whether a seed has these runs, and each has answered the same samples."""
    return all(
        name in other and _samples_of(other[name]) == _samples_of(each)
        for name, each in runs.items()
    )


def _samples_of(scores: Scores) -> dict[tuple[str, str], list[int]]:
    return {place: each.clusters.tolist() for place, each in scores.items()}


def _matrix(scores: Mapping[str, Scores], contents: Contents) -> ScoreMatrix:
    """Run x task of one seed; NaN where a run did not answer, or answered other samples than the
    first that did.
    """
    samples = {}
    for task in contents.balanced:
        cells = [each.get((task, SPLIT)) for each in scores.values()]
        first = next((cell for cell in cells if cell is not None), None)
        if first is None:
            continue
        metric, nothing = contents.metric_of(first), np.full(len(first.clusters), np.nan)
        alike = [
            c is not None and metric in c.metrics and np.array_equal(c.clusters, first.clusters)
            for c in cells
        ]
        found = [
            c.metrics[metric] if c is not None and same else None
            for c, same in zip(cells, alike, strict=True)
        ]
        values = np.stack([nothing if each is None else each.measured.linear for each in found])
        maximum = max((each.maximum for each in found if each is not None), default=1.0)
        samples[task] = Samples(values, first.clusters, maximum)
    means = (
        np.array([each.values.mean(axis=1) for each in samples.values()])
        .reshape(len(samples), len(scores))
        .T
    )
    return ScoreMatrix(tuple(scores), tuple(samples), means, samples)


def _task_curve(
    contents: Contents, mean: ScoreMatrix, j: int, draws: Float[np.ndarray, "draw run"]
) -> TaskCurve:
    task = mean.tasks[j]
    places = {name: i for i, name in enumerate(mean.runs) if not np.isnan(draws[0, i])}
    known = {place_on_curve(name): draws[:, i] for name, i in places.items()}
    mixture = {amount: found for (which, amount), found in known.items() if which is None}
    alone = {amount: found for (which, amount), found in known.items() if which == task}
    whole = contents.plan.get("sizes", {}).get(task, {}).get("full")
    return TaskCurve(
        task=task,
        metric=next(
            contents.metric_of(r.scores[task, SPLIT])
            for r in contents.curve
            if (task, SPLIT) in r.scores
        ),
        maximum=mean.samples[task].maximum,
        records=(
            {amount: portion_size(whole, amount) for amount in sorted({*mixture, *alone})}
            if whole
            else {}
        ),
        mixture={amount: _measured(found) for amount, found in mixture.items()},
        alone={amount: _measured(found) for amount, found in alone.items()},
        reached=_share(mixture[min(mixture)], mixture[max(mixture)]) if len(mixture) > 1 else None,
    )


def _measured(draws: Float[np.ndarray, " draw"]) -> Measured:
    low, high = interval(draws[1:])
    return Measured(float(draws[0]), float(low), float(high))


def _share(part: Float[np.ndarray, " draw"], whole: Float[np.ndarray, " draw"]) -> Measured | None:
    """One score over another; None where the other cannot be told from 0."""
    if whole[0] <= 0:
        return None
    share = _measured(np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0))
    return None if np.isnan(share.low) else share


def to_json(found: AmountCurves) -> dict[str, Any]:
    """Scores, intervals and records, by task and amount."""
    return {
        "amounts": [str(amount) for amount in found.amounts],
        "seeds": list(found.matrices),
        "tasks": {
            each.task: {
                "metric": each.metric,
                "records": {str(amount): count for amount, count in each.records.items()},
                "mixture": {str(amount): _numbers(score) for amount, score in each.mixture.items()},
                "alone": {str(amount): _numbers(score) for amount, score in each.alone.items()},
                "reached": None if each.reached is None else _numbers(each.reached),
            }
            for each in found.tasks
        },
        "left_out": list(found.left_out),
    }


def _numbers(found: Measured) -> dict[str, Any]:
    return {"value": found.value, "interval": [found.low, found.high]}
