"""The final models side by side: differences on the same test samples, and Eq. 12-14 with EW as the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cotbal.balance.uncertainty import interval, resample_scores
from cotbal.improvement import error, improvement, task_improvement
from cotbal.report.contents import MetricScores, RunContents, TaskScores
from cotbal.scores import Samples, ScoreMatrix

BASELINE, OURS = "equal", "fixed"
LABELS = {BASELINE: "EW", OURS: "CoTBal"}
RESAMPLES, SEED = 1000, 0


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
    """One metric of one test split; `scores` by weighting, `difference` is CoTBal minus EW."""

    task: str
    split: str
    metric: str
    maximum: float
    scores: Mapping[str, float]
    difference: Difference | None


@dataclass(frozen=True)
class Comparison:
    """The final models.

    Attributes:
        weightings: of the final models that are done, EW and CoTBal first.
        rows: one a task, split and metric.
        per_task: relative change of CoTBal against EW, in %, Eq. 12.
        average: its mean over tasks, Eq. 13; None unless both models are done.
        error: mean of what tasks lost, in %, Eq. 14.
        left_out: tasks whose EW score is 0, so that a relative change has no meaning.
    """

    weightings: tuple[str, ...]
    rows: tuple[Row, ...]
    per_task: Mapping[str, Difference]
    average: Difference | None
    error: float | None
    left_out: tuple[str, ...]


def paired_difference(
    baseline: Float[np.ndarray, " sample"],
    ours: Float[np.ndarray, " sample"],
    clusters: Int[np.ndarray, " sample"],
    name: str = "",
) -> Difference:
    """Mean of `ours - baseline` with a bootstrap interval over clusters; both models answered the same samples.

    Args:
        baseline, ours: per-sample scores, in the same order.
        clusters: which samples belong together (one picture); they are drawn together.
        name: of the samples; the same name and clusters give the same draws.
    """
    means = _resampled_means(np.stack([baseline, ours]), clusters, name)
    low, high = interval(means[:, 1] - means[:, 0])
    return Difference(float(np.mean(ours) - np.mean(baseline)), float(low), float(high))


def _resampled_means(
    values: Float[np.ndarray, "run sample"], clusters: Int[np.ndarray, " sample"], name: str
) -> Float[np.ndarray, "resample run"]:
    runs = tuple(map(str, range(len(values))))
    matrix = ScoreMatrix(runs, (name,), values.mean(axis=1, keepdims=True), {name: Samples(values, clusters, np.inf)})
    return resample_scores(matrix, RESAMPLES, SEED)[:, :, 0]


def compare(finals: Sequence[RunContents], tasks: Sequence[str], balanced: Sequence[str]) -> Comparison:
    """Compare the final models that are done.

    Args:
        tasks: every task, in the order to show them.
        balanced: those that enter the averages of Eq. 13 and 14; the paper leaves text-only chat out.
    """
    done = {run.name: run for run in finals if run.status == "done"}
    order = [name for name in (BASELINE, OURS) if name in done]
    order += [name for name in done if name not in order]
    rows = tuple(row for task in tasks for row in _rows(task, {name: done[name] for name in order}))
    if BASELINE not in done or OURS not in done:
        return Comparison(tuple(order), rows, {}, None, None, ())
    scored = dict.fromkeys(row.task for row in rows if row.task in balanced)
    changes = {task: _changes(task, done[BASELINE], done[OURS]) for task in scored}
    known = {task: change for task, change in changes.items() if change is not None}
    left_out = tuple(task for task in changes if task not in known)
    if not known:
        return Comparison(tuple(order), rows, {}, None, None, left_out)
    together = np.stack(list(known.values()), axis=-1)
    return Comparison(
        weightings=tuple(order),
        rows=rows,
        per_task={task: _difference(change) for task, change in known.items()},
        average=_difference(improvement(together)),
        error=float(error(together[:1])[0]),
        left_out=left_out,
    )


def _rows(task: str, runs: Mapping[str, RunContents]) -> list[Row]:
    keys = dict.fromkeys(
        (split, metric)
        for run in runs.values()
        for (name, split), scores in run.scores.items()
        if name == task
        for metric in scores.metrics
    )
    return [_row(task, split, metric, runs) for split, metric in keys]


def _row(task: str, split: str, metric: str, runs: Mapping[str, RunContents]) -> Row:
    found: dict[str, TaskScores] = {
        name: run.scores[task, split] for name, run in runs.items() if (task, split) in run.scores
    }
    values: dict[str, MetricScores] = {
        name: scores.metrics[metric] for name, scores in found.items() if metric in scores.metrics
    }
    difference = None
    if BASELINE in values and OURS in values:
        baseline, ours = values[BASELINE].samples, values[OURS].samples
        difference = paired_difference(baseline, ours, found[OURS].clusters, f"{task}.{split}")
    maximum = next(iter(values.values())).maximum
    return Row(task, split, metric, maximum, {name: value.score for name, value in values.items()}, difference)


def _changes(task: str, baseline: RunContents, ours: RunContents) -> Float[np.ndarray, " 1+resample"] | None:
    """Relative change of one task (Eq. 12), then the same on every resample; None where a baseline score is 0."""
    columns = []
    for (name, split), theirs in baseline.scores.items():
        if name != task or (name, split) not in ours.scores:
            continue
        for metric, values in theirs.metrics.items():
            new = ours.scores[name, split].metrics[metric]
            both = np.stack([values.samples, new.samples])
            # The same name for every metric of a split: they are resampled together.
            resampled = _resampled_means(both, theirs.clusters, f"{task}.{split}")
            columns.append(np.concatenate([[[values.score, new.score]], resampled]))
    if not columns or min(column[0, 0] for column in columns) <= 0:
        return None
    scores = np.stack(columns, axis=1)  # [1 + resample, metric, model]
    return _relative(scores[..., 0], scores[..., 1])


def _relative(
    baseline: Float[np.ndarray, "resample metric"], ours: Float[np.ndarray, "resample metric"]
) -> Float[np.ndarray, " resample"]:
    """Eq. 12 where higher is better; NaN where a resampled baseline is 0."""
    zero = baseline == 0
    change = task_improvement(ours, np.where(zero, 1.0, baseline), np.ones(baseline.shape[-1], dtype=bool))
    return np.where(zero.any(axis=-1), np.nan, change)


def _difference(changes: Float[np.ndarray, " 1+resample"]) -> Difference:
    low, high = interval(changes[1:])
    return Difference(float(changes[0]), float(low), float(high))
