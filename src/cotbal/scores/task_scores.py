"""The score file of a run on one split of a task, and columns of samples from several of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from cotbal.scores.matrix import Measured, Samples, read_measured

CONSTANT = "constant_"  # prefix of the fields that hold the scores of the best constant answer


@dataclass(frozen=True)
class MetricScores:
    """Scores of one run on one split of one task, by one metric.

    Attributes:
        measured: score of every sample.
        maximum: the largest value that the metric can give.
        constant: the same for the best constant answer; None where it is not known.
        constant_answer: that answer.
        source: digest of the code that computed the scores; None where it is not known.
    """

    measured: Measured
    maximum: float
    constant: Measured | None = None
    constant_answer: str = ""
    source: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry of the metric in the file."""
        constant = {} if self.constant is None else self.constant.to_json(CONSTANT)
        source = {} if self.source is None else {"source": self.source}
        return {
            "score": self.measured.score,
            "maximum": self.maximum if math.isfinite(self.maximum) else None,
            **source,
            **self.measured.to_json(),
            "constant_answer": self.constant_answer,
            **constant,
        }


@dataclass(frozen=True)
class TaskScores:
    """Scores of one run on one split of one task.

    Attributes:
        clusters: number of the image that every sample is about.
        metrics: name of the metric -> scores.
    """

    task: str
    split: str
    clusters: Int[np.ndarray, " sample"]
    metrics: Mapping[str, MetricScores]


def task_scores(content: Mapping[str, Any]) -> TaskScores:
    """Parse the content of the file.

    Raises:
        ValueError: a metric has another number of scores than there are samples; and other errors
            for content of another form.
    """
    clusters = np.array(content["clusters"], dtype=int)
    metrics = {name: _metric_scores(entry) for name, entry in content["metrics"].items()}
    for name, scores in metrics.items():
        for measured in (scores.measured, scores.constant):
            if measured is not None and len(measured.linear) != len(clusters):
                raise ValueError(f"{name}: expected a score for each of {len(clusters)} samples")
    return TaskScores(content["task"], content["split"], clusters, metrics)


def _metric_scores(entry: Mapping[str, Any]) -> MetricScores:
    has_constant = bool(entry.get(f"{CONSTANT}samples"))
    return MetricScores(
        measured=read_measured(entry),
        maximum=math.inf if entry["maximum"] is None else float(entry["maximum"]),
        constant=read_measured(entry, CONSTANT) if has_constant else None,
        constant_answer=entry.get("constant_answer") or "",
        source=entry.get("source"),
    )


def sample_column(
    cells: Sequence[MetricScores | None],
    clusters: Int[np.ndarray, " sample"],
    drawn_with: str = "",
) -> Samples:
    """The column of a score matrix from one cell per row; the row of an absent cell is NaN.

    Args:
        cells: scores of the same samples by the same metric; at least one is there.
        clusters: of these samples.
        drawn_with: see `Samples`.
    """
    present = [cell for cell in cells if cell is not None]
    absent = np.full(len(clusters), np.nan)
    return Samples(
        values=np.stack([absent if cell is None else cell.measured.linear for cell in cells]),
        clusters=clusters,
        maximum=max(cell.maximum for cell in present),
        constant=None if present[0].constant is None else present[0].constant.linear,
        constant_answer=present[0].constant_answer,
        drawn_with=drawn_with,
    )
