"""Score against the fraction of the training data (Fig. 1b), with joint intervals over all
fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeGuard

import numpy as np
from jaxtyping import Float

from cotbal.balance.uncertainty import resample_scores
from cotbal.recipe.runs import place_on_curve, portion_size
from cotbal.report.comparison import RESAMPLES, SEED, Scores
from cotbal.report.contents import Contents
from cotbal.scores.interval import Interval, Noise, interval_of_draws, noise_of_seeds
from cotbal.scores.matrix import ScoreMatrix, matrix_of_samples, mean_matrix
from cotbal.scores.task_scores import TaskScores, sample_column

SPLIT = "validation"


@dataclass(frozen=True)
class TaskCurve:
    """Scores of one task by fraction of its training records.

    Attributes:
        metric, maximum: of the scores.
        records: fraction -> training records of the task; empty where they are not known.
        mixture: fraction -> score of the model trained on this fraction of every balanced task.
        alone: fraction -> score of the model trained on this fraction of the task and nothing else.
        reached: score at the smallest fraction over that at the largest, in the mixture; None with
            a single fraction, and where the score at the largest may be 0.
    """

    task: str
    metric: str
    maximum: float
    records: Mapping[Fraction, int]
    mixture: Mapping[Fraction, Interval]
    alone: Mapping[Fraction, Interval]
    reached: Interval | None


@dataclass(frozen=True)
class DataCurves:
    """Fig. 1b of a run directory.

    Attributes:
        fractions: ascending.
        tasks: one curve per balanced task.
        matrices: training seed -> score of every run on every task, NaN where a run did not answer.
        left_out: finished runs that are not shown, because not every seed shown has them.
    """

    fractions: tuple[Fraction, ...]
    tasks: tuple[TaskCurve, ...]
    matrices: Mapping[int, ScoreMatrix]
    left_out: tuple[str, ...]

    @property
    def mean(self) -> ScoreMatrix:
        """Mean over seeds."""
        return mean_matrix(list(self.matrices.values()))


def data_curves(contents: Contents) -> DataCurves | None:
    """The curves of a run directory, on seeds that have the same runs; None where no run of them is
    done.
    """
    done: dict[int, dict[str, Scores]] = {}
    for run in contents.curve:
        if run.status == "done":
            done.setdefault(contents.seed_of(run), {})[run.name] = run.scores
    if not done or not contents.balanced:
        return None
    seeds, names = _fullest(done, contents.balanced)
    matrices = {}
    for seed in seeds:
        matrices[seed] = _matrix({name: done[seed][name] for name in names}, contents)
    of_seeds = list(matrices.values())
    mean = mean_matrix(of_seeds)
    # The first draw is the estimate.
    draws = np.concatenate([mean.values[None], resample_scores(of_seeds, RESAMPLES, SEED)])
    noise = noise_of_seeds(len(seeds))
    curves = [_task_curve(contents, mean, j, draws[..., j], noise) for j in range(len(mean.tasks))]
    return DataCurves(
        fractions=tuple(sorted({place_on_curve(name)[1] for name in names})),
        tasks=tuple(curves),
        matrices=matrices,
        left_out=_left_out(done, seeds, names),
    )


def _left_out(
    done: Mapping[int, Mapping[str, Scores]], seeds: Sequence[int], names: Sequence[str]
) -> tuple[str, ...]:
    left_out = []
    for seed, runs in done.items():
        shown = names if seed in seeds else ()
        left_out += [f"{name}, seed {seed}" for name in runs if name not in shown]
    return tuple(left_out)


def _fullest(
    done: Mapping[int, Mapping[str, Scores]], tasks: Sequence[str]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The runs of one seed, and every seed that has them all: as many seeds times runs as there
    are.
    """
    groups = []
    for runs in done.values():
        seeds = tuple(seed for seed in sorted(done) if _has(done[seed], runs))
        groups.append((seeds, tuple(runs)))
    seeds, names = max(groups, key=lambda group: len(group[0]) * len(group[1]))

    def order(name: str) -> tuple[int, Fraction]:
        task, fraction = place_on_curve(name)
        return (tasks.index(task) if task in tasks else -1), fraction

    return seeds, tuple(sorted(names, key=order))


def _has(other: Mapping[str, Scores], runs: Mapping[str, Scores]) -> bool:
    """Whether a seed has these runs, and each has answered the same samples."""
    return all(
        name in other and _clusters(other[name]) == _clusters(scores)
        for name, scores in runs.items()
    )


def _clusters(scores: Scores) -> dict[tuple[str, str], list[int]]:
    return {key: task.clusters.tolist() for key, task in scores.items()}


def _matrix(scores: Mapping[str, Scores], contents: Contents) -> ScoreMatrix:
    """Run x task of one seed; NaN where a run did not answer, or answered other samples than the
    first that did.
    """
    samples = {}
    for task in contents.balanced:
        answered = [run.get((task, SPLIT)) for run in scores.values()]
        scored = [a if a and contents.metric_of(a) in a.metrics else None for a in answered]
        first = next((s for s in scored if s), None)
        if first is not None:
            cells = [s.metrics[contents.metric_of(s)] if _alike(s, first) else None for s in scored]
            samples[task] = sample_column(cells, first.clusters)
    return matrix_of_samples(tuple(scores), samples)


def _alike(scores: TaskScores | None, first: TaskScores) -> TypeGuard[TaskScores]:
    return scores is not None and np.array_equal(scores.clusters, first.clusters)


def _task_curve(
    contents: Contents,
    mean: ScoreMatrix,
    j: int,
    draws: Float[np.ndarray, "draw run"],
    noise: tuple[Noise, ...],
) -> TaskCurve:
    task = mean.tasks[j]
    mixture, alone = _by_fraction(mean.runs, draws, None), _by_fraction(mean.runs, draws, task)
    scores = (run.scores.get((task, SPLIT)) for run in contents.curve)
    return TaskCurve(
        task=task,
        metric=next(contents.metric_of(s) for s in scores if s),
        maximum=mean.samples[task].maximum,
        records=_records(contents, task, [*mixture, *alone]),
        mixture={at: interval_of_draws(values, noise) for at, values in mixture.items()},
        alone={at: interval_of_draws(values, noise) for at, values in alone.items()},
        reached=_reached(mixture, noise),
    )


def _by_fraction(
    runs: Sequence[str], draws: Float[np.ndarray, "draw run"], trained_on: str | None
) -> dict[Fraction, Float[np.ndarray, " draw"]]:
    """Draws of the runs on one task, or on the mixture (None); runs without a score are left
    out.
    """
    by_fraction = {}
    for run, values in zip(runs, draws.T, strict=True):
        task, fraction = place_on_curve(run)
        if task == trained_on and not np.isnan(values[0]):
            by_fraction[fraction] = values
    return by_fraction


def _records(contents: Contents, task: str, fractions: Sequence[Fraction]) -> dict[Fraction, int]:
    whole = contents.plan.get("sizes", {}).get(task, {}).get("full")
    if not whole:
        return {}
    return {fraction: portion_size(whole, fraction) for fraction in sorted(set(fractions))}


def _reached(
    mixture: Mapping[Fraction, Float[np.ndarray, " draw"]], noise: tuple[Noise, ...]
) -> Interval | None:
    """Score at the smallest fraction over that at the largest; None where that may be 0."""
    if len(mixture) < 2:
        return None
    part, whole = mixture[min(mixture)], mixture[max(mixture)]
    if whole[0] <= 0:
        return None
    ratio = np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
    share = interval_of_draws(ratio, noise)
    return share if share.has_bounds else None


def to_json(curves: DataCurves) -> dict[str, Any]:
    """Scores, intervals and records, by task and fraction."""
    return {
        "fractions": [str(fraction) for fraction in curves.fractions],
        "seeds": list(curves.matrices),
        "tasks": {curve.task: _task_json(curve) for curve in curves.tasks},
        "left_out": list(curves.left_out),
    }


def _task_json(curve: TaskCurve) -> dict[str, Any]:
    return {
        "metric": curve.metric,
        "records": {str(fraction): count for fraction, count in curve.records.items()},
        "mixture": {str(fraction): score.to_json() for fraction, score in curve.mixture.items()},
        "alone": {str(fraction): score.to_json() for fraction, score in curve.alone.items()},
        "reached": None if curve.reached is None else curve.reached.to_json(),
    }
