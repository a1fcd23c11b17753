"""Score against the fraction of the training data (Fig. 1b), with joint intervals over all
fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.balance.uncertainty import resample_scores
from cotbal.recipe.runs import place_on_curve, portion_size
from cotbal.report.comparison import RESAMPLES, SEED, Scores
from cotbal.report.contents import Contents
from cotbal.scores.interval import Interval, Noise, interval_of_draws, noise_of_seeds
from cotbal.scores.matrix import Samples, ScoreMatrix, matrix_of_samples, mean_matrix
from cotbal.scores.task_scores import MetricScores, TaskScores, sample_column

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
            of_seed = done.setdefault(contents.seed_of(run), {})
            of_seed[run.name] = run.scores
    if not done or not contents.balanced:
        return None
    seeds, names = _fullest(done, contents.balanced)
    fractions = set()
    for name in names:
        _, fraction = place_on_curve(name)
        fractions.add(fraction)
    matrices = {}
    for seed in seeds:
        shown = {name: done[seed][name] for name in names}
        matrices[seed] = _matrix(shown, contents)
    of_seeds = list(matrices.values())
    mean = mean_matrix(of_seeds)
    estimate = mean.values[None]
    resamples = resample_scores(of_seeds, RESAMPLES, SEED)
    draws = np.concatenate([estimate, resamples])
    noise = noise_of_seeds(len(seeds))
    curves = []
    for j in range(len(mean.tasks)):
        curve = _task_curve(contents, mean, j, draws[..., j], noise)
        curves.append(curve)
    return DataCurves(
        fractions=tuple(sorted(fractions)),
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
        for name in runs:
            if name not in shown:
                left_out.append(f"{name}, seed {seed}")
    return tuple(left_out)


def _fullest(
    done: Mapping[int, Mapping[str, Scores]], tasks: Sequence[str]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The runs of one seed, and every seed that has them all: as many seeds times runs as there
    are.
    """
    seeds: list[int] = []
    names: list[str] = []
    for runs in done.values():
        with_runs = [seed for seed in sorted(done) if _has(done[seed], runs)]
        if len(with_runs) * len(runs) > len(seeds) * len(names):
            seeds = with_runs
            names = list(runs)

    def order(name: str) -> tuple[int, Fraction]:
        task, fraction = place_on_curve(name)
        position = tasks.index(task) if task in tasks else -1
        return position, fraction

    names.sort(key=order)
    return tuple(seeds), tuple(names)


def _has(other: Mapping[str, Scores], runs: Mapping[str, Scores]) -> bool:
    """Whether a seed has these runs, and each has answered the same samples."""
    for name, scores in runs.items():
        if name not in other:
            return False
        if _clusters(other[name]) != _clusters(scores):
            return False
    return True


def _clusters(scores: Scores) -> dict[tuple[str, str], list[int]]:
    """(task, split) -> clusters of the samples that a run has answered."""
    clusters = {}
    for key, of_split in scores.items():
        clusters[key] = of_split.clusters.tolist()
    return clusters


def _matrix(scores: Mapping[str, Scores], contents: Contents) -> ScoreMatrix:
    """Run x task of one seed; NaN where a run did not answer, or answered other samples than the
    first that did.
    """
    samples = {}
    for task in contents.balanced:
        answered = [run.get((task, SPLIT)) for run in scores.values()]
        column = _column(answered, contents)
        if column is not None:
            samples[task] = column
    return matrix_of_samples(tuple(scores), samples)


def _column(answered: Sequence[TaskScores | None], contents: Contents) -> Samples | None:
    """The samples of one task; None where no run has scores of it."""
    cells: list[MetricScores | None] = []
    clusters = None
    for scores in answered:
        metric = scores.metrics.get(contents.metric_of(scores)) if scores else None
        if scores is None or metric is None:
            cells.append(None)
            continue
        if clusters is None:
            clusters = scores.clusters
        is_same = np.array_equal(scores.clusters, clusters)
        cells.append(metric if is_same else None)
    if clusters is None:
        return None
    return sample_column(cells, clusters)


def _task_curve(
    contents: Contents,
    mean: ScoreMatrix,
    j: int,
    draws: Float[np.ndarray, "draw run"],
    noise: tuple[Noise, ...],
) -> TaskCurve:
    task = mean.tasks[j]
    mixture = _by_fraction(mean.runs, draws, trained_on=None)
    alone = _by_fraction(mean.runs, draws, trained_on=task)
    return TaskCurve(
        task=task,
        metric=_metric_name(contents, task),
        maximum=mean.samples[task].maximum,
        records=_records(contents, task, [*mixture, *alone]),
        mixture=_intervals(mixture, noise),
        alone=_intervals(alone, noise),
        reached=_reached(mixture, noise),
    )


def _metric_name(contents: Contents, task: str) -> str:
    """The metric of a task that a run of the curve has answered."""
    for run in contents.curve:
        scores = run.scores.get((task, SPLIT))
        if scores is not None:
            return contents.metric_of(scores)
    raise KeyError(task)


def _intervals(
    by_fraction: Mapping[Fraction, Float[np.ndarray, " draw"]], noise: tuple[Noise, ...]
) -> dict[Fraction, Interval]:
    intervals = {}
    for fraction, draws in by_fraction.items():
        intervals[fraction] = interval_of_draws(draws, noise)
    return intervals


def _by_fraction(
    runs: Sequence[str], draws: Float[np.ndarray, "draw run"], trained_on: str | None
) -> dict[Fraction, Float[np.ndarray, " draw"]]:
    """Draws of the runs on one task, or on the mixture (None); runs without a score are left
    out.
    """
    by_fraction = {}
    for run, values in zip(runs, draws.T, strict=True):
        task, fraction = place_on_curve(run)
        estimate = values[0]
        if task == trained_on and not np.isnan(estimate):
            by_fraction[fraction] = values
    return by_fraction


def _records(contents: Contents, task: str, fractions: Sequence[Fraction]) -> dict[Fraction, int]:
    """Fraction -> records of the task in it; empty where the plan does not name its size."""
    sizes = contents.plan.get("sizes", {})
    whole = sizes.get(task, {}).get("full")
    if not whole:
        return {}
    records = {}
    for fraction in sorted(set(fractions)):
        records[fraction] = portion_size(whole, fraction)
    return records


def _reached(
    mixture: Mapping[Fraction, Float[np.ndarray, " draw"]], noise: tuple[Noise, ...]
) -> Interval | None:
    """Score at the smallest fraction over that at the largest; None where that may be 0."""
    if len(mixture) < 2:
        return None
    smallest = mixture[min(mixture)]
    largest = mixture[max(mixture)]
    estimate = largest[0]
    if estimate <= 0:
        return None
    unknown = np.full_like(smallest, np.nan)
    ratios = np.divide(smallest, largest, out=unknown, where=largest > 0)
    share = interval_of_draws(ratios, noise)
    if not share.has_bounds:
        return None
    return share


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
        "mixture": _scores_json(curve.mixture),
        "alone": _scores_json(curve.alone),
        "reached": curve.reached.to_json() if curve.reached else None,
    }


def _scores_json(scores: Mapping[Fraction, Interval]) -> dict[str, Any]:
    return {str(fraction): score.to_json() for fraction, score in scores.items()}
