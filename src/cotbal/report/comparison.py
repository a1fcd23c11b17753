"""Models side by side: differences on the same test samples and seeds, and Eq. 12-14 against a
reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.balance.improvement import error, improvement, task_improvements
from cotbal.balance.uncertainty import resample_scores
from cotbal.scores.interval import Interval, Noise, interval_of_draws, noise_of_seeds
from cotbal.scores.matrix import ScoreMatrix, matrix_of_samples, mean_matrix
from cotbal.scores.results import Column, Results
from cotbal.scores.task_scores import TaskScores, sample_column
from cotbal.weightings import method_label

BASELINE, OURS = "ew", "cotbal"
RESAMPLES, SEED = 1000, 0
Scores = Mapping[tuple[str, str], TaskScores]  # (task, split) -> scores of one model
Models = Mapping[str, Mapping[int, Scores]]  # method -> training seed -> scores


@dataclass(frozen=True)
class Row:
    """One metric of one test split.

    Attributes:
        scores: method -> score, a mean over seeds; methods that did not answer are left out.
        differences: method -> score minus that of EW, on the same samples and seeds.
    """

    task: str
    split: str
    metric: str
    scores: Mapping[str, float]
    differences: Mapping[str, Interval]


@dataclass(frozen=True)
class Against:
    """One method against the reference, in %: Eq. 12 by task, Eq. 13 and Eq. 14."""

    per_task: Mapping[str, Interval]
    average: Interval
    error: Interval


@dataclass(frozen=True)
class SeedNoise:
    """Standard deviations of the difference between two trainings that differ in the seed alone, in
    % of the reference's score.

    Attributes:
        per_task: of the relative change of each task.
        low, high: of the mean over tasks; they differ where it is not known whether the tasks move
            together.
        source: what was measured.
        left_out: tasks where the reference did not score above 0, in no number here.
    """

    per_task: Mapping[str, float]
    low: float
    high: float
    source: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Models of several methods.

    Attributes:
        methods: in the order of their columns.
        seeds: training seeds that every method has.
        reference: the method that relative changes are measured against; None where it was not
            trained.
        rows: one per task, split and metric.
        against: method -> its changes against the reference; empty without a reference.
        paired: method -> its improvement (Eq. 13) minus that of EW, seed by seed; empty where EW is
            the reference.
        by_seed: method -> its improvement (Eq. 13) in each of `seeds`.
        left_out: tasks where the reference did not score above 0, so that a relative change has no
            meaning.
        seed_noise: with one seed, how much another one may change, where that is known.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    reference: str | None = None
    rows: tuple[Row, ...] = ()
    against: Mapping[str, Against] = field(default_factory=dict)
    paired: Mapping[str, Interval] = field(default_factory=dict)
    by_seed: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    seed_noise: SeedNoise | None = None

    @property
    def noise(self) -> tuple[Noise, ...]:
        """What every interval here holds."""
        return noise_of_seeds(len(self.seeds))


@dataclass(frozen=True)
class _Metric:
    """One metric of one test split: a column of the score matrix."""

    task: str
    split: str
    name: str

    @property
    def column(self) -> Column:
        return Column(self.task, f"{self.split}.{self.name}")


def compare(
    models: Models, tasks: Sequence[str], balanced: Sequence[str], reference: str = BASELINE
) -> Comparison:
    """Compare models on the seeds that all of them have.

    Args:
        models: every model has answered the same test samples.
        tasks: every task, in the order to show them.
        balanced: tasks in the averages of Eq. 13 and 14; the paper leaves text-only chat out.
        reference: the method of Eq. 12; the paper takes single-task models (STL).
    """
    seeds = _shared_seeds(models)
    comparison = Comparison(tuple(models), seeds)
    metrics = _metrics(models, seeds, tasks)
    if not metrics:
        return comparison
    matrices = [_matrix(models, seed, metrics) for seed in seeds]
    mean = mean_matrix(matrices)
    # The first draw is the estimate.
    draws = np.concatenate([mean.values[None], resample_scores(matrices, RESAMPLES, SEED)])
    rows = [
        _row(metric, mean.runs, draws[..., j], comparison.noise) for j, metric in enumerate(metrics)
    ]
    comparison = replace(comparison, rows=tuple(rows))
    if reference not in models:
        return comparison
    comparison = replace(comparison, reference=reference)
    chosen = [j for j, metric in enumerate(metrics) if metric.task in balanced]
    if not chosen:
        return comparison
    columns = tuple(metrics[j].column for j in chosen)
    position = comparison.methods.index(reference)
    by_seed = np.stack([matrix.values for matrix in matrices])[..., chosen]
    return _against(
        comparison,
        tuple(dict.fromkeys(column.task for column in columns)),
        task_improvements(draws[..., chosen], columns, position),
        task_improvements(by_seed, columns, position),
    )


def _shared_seeds(models: Models) -> tuple[int, ...]:
    if not models:
        return ()
    first, *others = models.values()
    shared = set(first).intersection(*others)
    return tuple(seed for seed in first if seed in shared)


def _metrics(models: Models, seeds: Sequence[int], tasks: Sequence[str]) -> list[_Metric]:
    """Every metric of every split that some model has, ordered by task."""
    scores = [by_seed[seed] for by_seed in models.values() for seed in seeds]
    splits = [split for model in scores for split in model.values() if split.task in tasks]
    metrics: dict[_Metric, None] = {}  # an ordered set
    for split in splits:
        for name in split.metrics:
            metrics[_Metric(split.task, split.split, name)] = None
    return sorted(metrics, key=lambda metric: tasks.index(metric.task))


def _matrix(models: Models, seed: int, metrics: Sequence[_Metric]) -> ScoreMatrix:
    """Method x metric of one seed; NaN where a model did not answer."""
    samples = {}
    for metric in metrics:
        scores = [by_seed[seed].get((metric.task, metric.split)) for by_seed in models.values()]
        cells = [s.metrics.get(metric.name) if s else None for s in scores]
        clusters = next(s.clusters for s, cell in zip(scores, cells, strict=True) if s and cell)
        # Metrics of one split score the same samples, so one draw serves them all.
        samples[str(metric.column)] = sample_column(
            cells, clusters, drawn_with=f"{metric.task}.{metric.split}"
        )
    return matrix_of_samples(tuple(models), samples)


def _row(
    metric: _Metric,
    methods: Sequence[str],
    draws: Float[np.ndarray, "draw method"],
    noise: tuple[Noise, ...],
) -> Row:
    answered = {m: draws[:, i] for i, m in enumerate(methods) if not np.isnan(draws[0, i])}
    scores = {method: float(values[0]) for method, values in answered.items()}
    differences: dict[str, Interval] = {}
    if BASELINE in methods:
        baseline = draws[:, methods.index(BASELINE)]
        differences = {
            method: interval_of_draws(values - baseline, noise)
            for method, values in answered.items()
            if method != BASELINE
        }
    return Row(metric.task, metric.split, metric.name, scores, differences)


def _against(
    comparison: Comparison,
    tasks: Sequence[str],
    changes: Float[np.ndarray, "draw method task"],
    by_seed: Float[np.ndarray, "seed method task"],
) -> Comparison:
    """The comparison with Eq. 12-14 against its reference."""
    known = ~np.isnan(changes[0]).any(axis=0)
    comparison = replace(
        comparison, left_out=tuple(task for task, k in zip(tasks, known, strict=True) if not k)
    )
    if not known.any():
        return comparison
    kept = [task for task, k in zip(tasks, known, strict=True) if k]
    changes, by_seed = changes[..., known], by_seed[..., known]
    averages, errors, seed_averages = improvement(changes), error(changes), improvement(by_seed)
    against, seeds, noise = {}, {}, comparison.noise
    for i, method in enumerate(comparison.methods):
        if method == comparison.reference:
            continue
        against[method] = Against(
            {task: interval_of_draws(changes[:, i, t], noise) for t, task in enumerate(kept)},
            interval_of_draws(averages[:, i], noise),
            interval_of_draws(errors[:, i], noise),
        )
        seeds[method] = tuple(seed_averages[:, i].tolist())
    return replace(comparison, against=against, by_seed=seeds, paired=_paired(comparison, averages))


def _paired(
    comparison: Comparison, averages: Float[np.ndarray, "draw method"]
) -> dict[str, Interval]:
    """Improvement minus that of EW, where EW is not the reference itself."""
    methods, reference = comparison.methods, comparison.reference
    if reference == BASELINE or BASELINE not in methods:
        return {}
    baseline = averages[:, methods.index(BASELINE)]
    return {
        method: interval_of_draws(averages[:, i] - baseline, comparison.noise)
        for i, method in enumerate(methods)
        if method not in (BASELINE, reference)
    }


def results_table(comparison: Comparison, balanced: Sequence[str]) -> Results:
    """Test results of the balanced tasks as a table that `cotbal overall` reads, with the paper's
    names of the methods.
    """
    rows = [
        row
        for row in comparison.rows
        if row.task in balanced and len(row.scores) == len(comparison.methods)
    ]
    tasks = [row.task for row in rows]
    columns = tuple(
        Column(row.task, f"{row.split}.{row.metric}" if tasks.count(row.task) > 1 else row.metric)
        for row in rows
    )
    values = np.empty((len(comparison.methods), len(rows)))
    for i, method in enumerate(comparison.methods):
        values[i] = [row.scores[method] for row in rows]
    return Results(tuple(map(method_label, comparison.methods)), columns, values)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Improvement, error and paired differences with their intervals, with the paper's names of the
    methods.
    """
    against, by_seed, scores = {}, {}, []
    for name, changes in comparison.against.items():
        against[method_label(name)] = {
            "improvement": _change(changes.average),
            "error": _change(changes.error),
            "tasks": {task: _change(change) for task, change in changes.per_task.items()},
        }
        values = comparison.by_seed[name]
        by_seed[method_label(name)] = [None if np.isnan(value) else value for value in values]
    for row in comparison.rows:
        where = {"task": row.task, "split": row.split, "metric": row.metric}
        scores.append({**where, "methods": _changes(row.differences)})
    return {
        "methods": [method_label(name) for name in comparison.methods],
        "seeds": list(comparison.seeds),
        "reference": method_label(comparison.reference) if comparison.reference else None,
        "left_out": list(comparison.left_out),
        "seed_noise": None if comparison.seed_noise is None else vars(comparison.seed_noise),
        "against": against,
        "minus_EW": _changes(comparison.paired),
        "improvement_by_seed": by_seed,
        "scores_minus_EW": scores,
    }


def _changes(by_method: Mapping[str, Interval]) -> dict[str, Any]:
    return {method_label(name): _change(change) for name, change in by_method.items()}


def _change(change: Interval) -> dict[str, Any]:
    """A change, its interval, and half its width: the study could only detect larger changes.

    Whether it differs significantly from 0 is null where the noise of training is not known.
    """
    half_width = change.half_width if change.has_bounds else None
    differs = change.differs() if change.holds_training else None
    return {**change.to_json(), "half_width": half_width, "differs_from_zero": differs}
