"""Models side by side: differences on the same test samples and seeds, and Eq. 12-14 against a
reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cotbal.balance.improvement import error, improvement, task_improvements
from cotbal.balance.uncertainty import interval, resample_scores
from cotbal.report.contents import TaskScores
from cotbal.scores.matrix import Samples, ScoreMatrix, mean_matrix
from cotbal.scores.results import Column

BASELINE, OURS = "ew", "cotbal"
RESAMPLES, SEED = 1000, 0
Scores = Mapping[tuple[str, str], TaskScores]  # (task, split) -> what one model scored
Models = Mapping[str, Mapping[int, Scores]]  # method -> training seed -> scores


@dataclass(frozen=True)
class Difference:
    """A change and its 95 % interval (NaN where it has none)."""

    value: float
    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval."""
        return self.low, self.high

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


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
    maximum: float
    scores: Mapping[str, float]
    differences: Mapping[str, Difference]


@dataclass(frozen=True)
class Against:
    """One method against the reference, in %: Eq. 12 by task, Eq. 13 and Eq. 14."""

    per_task: Mapping[str, Difference]
    average: Difference
    error: Difference


@dataclass(frozen=True)
class Comparison:
    """Models of several methods.

    Attributes:
        methods: in the order of their columns.
        seeds: training seeds that every method has.
        reference: the method that relative changes are measured against; None where it is not
            there.
        rows: one a task, split and metric.
        against: method -> its changes against the reference; empty without a reference.
        paired: method -> its improvement (Eq. 13) minus that of EW, seed by seed; empty where EW is
            the reference.
        by_seed: method -> its improvement (Eq. 13) in every one of `seeds`.
        left_out: tasks where the reference did not score above 0, so that a relative change has no
            meaning.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    reference: str | None
    rows: tuple[Row, ...]
    against: Mapping[str, Against]
    paired: Mapping[str, Difference]
    by_seed: Mapping[str, tuple[float, ...]]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """Where a column of the score matrix comes from."""

    task: str
    split: str
    metric: str

    def __str__(self) -> str:
        return f"{self.task}:{self.split}.{self.metric}"


def compare(
    models: Models, tasks: Sequence[str], balanced: Sequence[str], reference: str = BASELINE
) -> Comparison:
    """Compare models on the seeds that all of them have.

    Args:
        models: every model has answered the same test samples.
        tasks: every task, in the order to show them.
        balanced: those that enter the averages of Eq. 13 and 14; the paper leaves text-only chat
            out.
        reference: the method of Eq. 12; the paper takes single-task models (STL).
    """
    methods = tuple(models)
    seeds = tuple(
        seed
        for seed in next(iter(models.values()), {})
        if all(seed in each for each in models.values())
    )
    places = _places(models, seeds, tasks)
    if not places:
        return Comparison(methods, seeds, None, (), {}, {}, {}, ())
    matrices = [_matrix(models, seed, places) for seed in seeds]
    mean, drawn = mean_matrix(matrices), resample_scores(matrices, RESAMPLES, SEED)
    draws = np.concatenate([mean.values[None], drawn])  # the first is what was seen
    rows = tuple(_row(place, j, draws[..., j], mean) for j, place in enumerate(places))
    if reference not in methods:
        return Comparison(methods, seeds, None, rows, {}, {}, {}, ())
    chosen = [j for j, place in enumerate(places) if place.task in balanced]
    columns = tuple(Column(places[j].task, f"{places[j].split}.{places[j].metric}") for j in chosen)
    if not columns:
        return Comparison(methods, seeds, reference, rows, {}, {}, {}, ())
    own = np.stack([matrix.values for matrix in matrices])
    changes, of_seeds = (
        task_improvements(v[..., chosen], columns, methods.index(reference)) for v in (draws, own)
    )
    names = tuple(dict.fromkeys(column.task for column in columns))
    known = ~np.isnan(changes[0]).any(axis=0)
    kept = tuple(name for name, there in zip(names, known, strict=True) if there)
    against, paired = _against(changes[..., known], methods, kept, reference)
    by_seed = {
        m: tuple(improvement(of_seeds[:, methods.index(m), known]).tolist()) for m in against
    }
    left_out = tuple(name for name in names if name not in kept)
    return Comparison(methods, seeds, reference, rows, against, paired, by_seed, left_out)


def _places(models: Models, seeds: Sequence[int], tasks: Sequence[str]) -> list[_Place]:
    """Every metric of every split that some model has, ordered by task."""
    scores = [each[seed] for each in models.values() for seed in seeds]
    found = [
        _Place(task, split, metric)
        for each in scores
        for (task, split), s in each.items()
        for metric in s.metrics
    ]
    return sorted(
        dict.fromkeys(p for p in found if p.task in tasks),
        key=lambda place: tasks.index(place.task),
    )


def _matrix(models: Models, seed: int, places: Sequence[_Place]) -> ScoreMatrix:
    """Method x metric of one seed, with the samples behind every cell; NaN where a model did not
    answer.
    """
    samples = {}
    for place in places:
        found = [each[seed].get((place.task, place.split)) for each in models.values()]
        cells = [
            cell if cell is not None and place.metric in cell.metrics else None for cell in found
        ]
        first = next(cell for cell in cells if cell is not None)
        nothing = np.full(len(first.clusters), np.nan)
        values = np.stack(
            [
                nothing if cell is None else cell.metrics[place.metric].measured.linear
                for cell in cells
            ]
        )
        maximum = first.metrics[place.metric].maximum
        # Metrics of one split answer the same samples, so one draw serves them all.
        samples[str(place)] = Samples(
            values, first.clusters, maximum, drawn_with=f"{place.task}.{place.split}"
        )
    means = np.stack([each.values.mean(axis=1) for each in samples.values()], axis=1)
    return ScoreMatrix(tuple(models), tuple(samples), means, samples)


def _row(place: _Place, j: int, draws: Float[np.ndarray, "draw method"], mean: ScoreMatrix) -> Row:
    differences = {}
    if BASELINE in mean.runs:
        other = draws[:, mean.runs.index(BASELINE)]
        answered = [
            (i, m) for i, m in enumerate(mean.runs) if m != BASELINE and not np.isnan(draws[0, i])
        ]
        differences = {m: _difference(draws[:, i] - other) for i, m in answered}
    scores = {
        m: float(v) for m, v in zip(mean.runs, mean.values[:, j], strict=True) if not np.isnan(v)
    }
    return Row(
        place.task, place.split, place.metric, mean.samples[str(place)].maximum, scores, differences
    )


def _against(
    changes: Float[np.ndarray, "draw method task"],
    methods: Sequence[str],
    tasks: Sequence[str],
    reference: str,
) -> tuple[dict[str, Against], dict[str, Difference]]:
    if not tasks:
        return {}, {}
    averages, errors = improvement(changes), error(changes)
    against = {
        method: Against(
            {task: _difference(changes[:, i, t]) for t, task in enumerate(tasks)},
            _difference(averages[:, i]),
            _difference(errors[:, i]),
        )
        for i, method in enumerate(methods)
        if method != reference
    }
    if reference == BASELINE or BASELINE not in methods:
        return against, {}
    equal = averages[:, methods.index(BASELINE)]
    others = [
        (i, method) for i, method in enumerate(methods) if method not in (BASELINE, reference)
    ]
    return against, {method: _difference(averages[:, i] - equal) for i, method in others}


def _difference(draws: Float[np.ndarray, " draw"]) -> Difference:
    low, high = interval(draws[1:])
    return Difference(float(draws[0]), float(low), float(high))
