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
from cotbal.scores.matrix import Samples, ScoreMatrix, matrix_of_samples, mean_matrix
from cotbal.scores.results import Column, Results
from cotbal.scores.task_scores import MetricScores, TaskScores, sample_column
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
        only_evaluated: the same methods on the tasks without training data, against the base
            checkpoint, or EW where that was not scored; None without such tasks.
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
    only_evaluated: Comparison | None = None

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
    estimate = mean.values[None]
    resamples = resample_scores(matrices, RESAMPLES, SEED)
    draws = np.concatenate([estimate, resamples])
    rows = []
    for j, metric in enumerate(metrics):
        row = _row(metric, mean.runs, draws[..., j], comparison.noise)
        rows.append(row)
    comparison = replace(comparison, rows=tuple(rows))
    if reference not in models:
        return comparison
    comparison = replace(comparison, reference=reference)
    chosen = [j for j, metric in enumerate(metrics) if metric.task in balanced]
    if not chosen:
        return comparison
    columns = tuple(metrics[j].column for j in chosen)
    tasks_of_columns = dict.fromkeys(column.task for column in columns)
    position = comparison.methods.index(reference)
    by_seed = np.stack([matrix.values for matrix in matrices])
    return _against(
        comparison,
        tasks=tuple(tasks_of_columns),
        changes=task_improvements(draws[..., chosen], columns, position),
        by_seed=task_improvements(by_seed[..., chosen], columns, position),
    )


def _shared_seeds(models: Models) -> tuple[int, ...]:
    if not models:
        return ()
    first, *others = models.values()
    shared = set(first).intersection(*others)
    return tuple(seed for seed in first if seed in shared)


def _metrics(models: Models, seeds: Sequence[int], tasks: Sequence[str]) -> list[_Metric]:
    """Every metric of every split that some model has, ordered by task."""
    splits: list[TaskScores] = []
    for by_seed in models.values():
        for seed in seeds:
            splits += by_seed[seed].values()
    metrics: dict[_Metric, None] = {}  # an ordered set
    for split in splits:
        if split.task not in tasks:
            continue
        for name in split.metrics:
            metric = _Metric(split.task, split.split, name)
            metrics[metric] = None
    return sorted(metrics, key=lambda metric: tasks.index(metric.task))


def _matrix(models: Models, seed: int, metrics: Sequence[_Metric]) -> ScoreMatrix:
    """Method x metric of one seed; NaN where a model did not answer."""
    of_seed = [by_seed[seed] for by_seed in models.values()]
    samples = {}
    for metric in metrics:
        samples[str(metric.column)] = _column(of_seed, metric)
    return matrix_of_samples(tuple(models), samples)


def _column(models: Sequence[Scores], metric: _Metric) -> Samples:
    """The samples of one metric; at least one model has them."""
    cells: list[MetricScores | None] = []
    clusters = np.array([], dtype=int)
    for scores in models:
        of_split = scores.get((metric.task, metric.split))
        cell = of_split.metrics.get(metric.name) if of_split else None
        cells.append(cell)
        if of_split and cell and not clusters.size:
            clusters = of_split.clusters
    # Metrics of one split score the same samples, so one draw serves them all.
    drawn_with = f"{metric.task}.{metric.split}"
    return sample_column(cells, clusters, drawn_with)


def _row(
    metric: _Metric,
    methods: Sequence[str],
    draws: Float[np.ndarray, "draw method"],
    noise: tuple[Noise, ...],
) -> Row:
    baseline = draws[:, methods.index(BASELINE)] if BASELINE in methods else None
    scores = {}
    differences = {}
    for method, values in zip(methods, draws.T, strict=True):
        score = float(values[0])
        if np.isnan(score):
            continue
        scores[method] = score
        if baseline is not None and method != BASELINE:
            difference = values - baseline
            differences[method] = interval_of_draws(difference, noise)
    return Row(metric.task, metric.split, metric.name, scores, differences)


def _against(
    comparison: Comparison,
    tasks: Sequence[str],
    changes: Float[np.ndarray, "draw method task"],
    by_seed: Float[np.ndarray, "seed method task"],
) -> Comparison:
    """The comparison with Eq. 12-14 against its reference."""
    estimate = changes[0]
    known = ~np.isnan(estimate).any(axis=0)
    kept: list[str] = []
    left_out: list[str] = []
    for task, is_known in zip(tasks, known, strict=True):
        names = kept if is_known else left_out
        names.append(task)
    comparison = replace(comparison, left_out=tuple(left_out))
    if not kept:
        return comparison
    changes = changes[..., known]
    averages = improvement(changes)
    errors = error(changes)
    averages_by_seed = improvement(by_seed[..., known])
    noise = comparison.noise
    against = {}
    seeds = {}
    for i, method in enumerate(comparison.methods):
        if method == comparison.reference:
            continue
        per_task = {}
        for t, task in enumerate(kept):
            per_task[task] = interval_of_draws(changes[:, i, t], noise)
        against[method] = Against(
            per_task,
            average=interval_of_draws(averages[:, i], noise),
            error=interval_of_draws(errors[:, i], noise),
        )
        of_seeds = averages_by_seed[:, i]
        seeds[method] = tuple(of_seeds.tolist())
    paired = _paired(comparison, averages)
    return replace(comparison, against=against, by_seed=seeds, paired=paired)


def _paired(
    comparison: Comparison, averages: Float[np.ndarray, "draw method"]
) -> dict[str, Interval]:
    """Improvement minus that of EW, where EW is not the reference itself."""
    methods = comparison.methods
    reference = comparison.reference
    if reference == BASELINE or BASELINE not in methods:
        return {}
    baseline = averages[:, methods.index(BASELINE)]
    paired = {}
    for method, average in zip(methods, averages.T, strict=True):
        if method not in (BASELINE, reference):
            difference = average - baseline
            paired[method] = interval_of_draws(difference, comparison.noise)
    return paired


def results_table(comparison: Comparison, balanced: Sequence[str]) -> Results:
    """Test results of the balanced tasks as a table that `cotbal overall` reads, with the paper's
    names of the methods.
    """
    methods = comparison.methods
    rows = []
    for row in comparison.rows:
        is_complete = len(row.scores) == len(methods)
        if is_complete and row.task in balanced:
            rows.append(row)
    tasks = [row.task for row in rows]
    columns = []
    for row in rows:
        is_only_one = tasks.count(row.task) == 1
        metric = row.metric if is_only_one else f"{row.split}.{row.metric}"
        columns.append(Column(row.task, metric))
    values = np.empty((len(methods), len(rows)))
    for i, method in enumerate(methods):
        values[i] = [row.scores[method] for row in rows]
    labels = map(method_label, methods)
    return Results(tuple(labels), tuple(columns), values)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Improvement, error and paired differences with their intervals, with the paper's names of the
    methods.
    """
    reference = comparison.reference
    noise = comparison.seed_noise
    against = {}
    by_seed = {}
    for name, changes in comparison.against.items():
        label = method_label(name)
        against[label] = {
            "improvement": _change(changes.average),
            "error": _change(changes.error),
            "tasks": {task: _change(change) for task, change in changes.per_task.items()},
        }
        values = comparison.by_seed[name]
        by_seed[label] = [None if np.isnan(value) else value for value in values]
    scores = []
    for row in comparison.rows:
        scores.append(
            {
                "task": row.task,
                "split": row.split,
                "metric": row.metric,
                "methods": _changes(row.differences),
            }
        )
    return {
        "methods": [method_label(name) for name in comparison.methods],
        "seeds": list(comparison.seeds),
        "reference": method_label(reference) if reference else None,
        "left_out": list(comparison.left_out),
        "seed_noise": vars(noise) if noise else None,
        "against": against,
        "minus_EW": _changes(comparison.paired),
        "improvement_by_seed": by_seed,
        "scores_minus_EW": scores,
        "only_evaluated": _only_evaluated_json(comparison.only_evaluated),
    }


def _only_evaluated_json(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None or comparison.reference is None:
        return None
    changes = {}
    for name, against in comparison.against.items():
        by_task = {task: _change(change) for task, change in against.per_task.items()}
        changes[method_label(name)] = by_task
    return {"reference": method_label(comparison.reference), "against": changes}


def _changes(by_method: Mapping[str, Interval]) -> dict[str, Any]:
    return {method_label(name): _change(change) for name, change in by_method.items()}


def _change(change: Interval) -> dict[str, Any]:
    """A change, its interval, and half its width: the study could only detect larger changes.

    Whether it differs significantly from 0 is null where the noise of training is not known.
    """
    half_width = change.half_width if change.has_bounds else None
    differs = change.differs() if change.holds_training else None
    return {
        **change.to_json(),
        "half_width": half_width,
        "differs_from_zero": differs,
    }
