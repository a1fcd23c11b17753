"""Predictions that are written before a final training, and compared with its outcome: Eq. R15."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.errors import CotbalError
from cotbal.response.choice import Choice
from cotbal.response.coordinates import doublings
from cotbal.response.response import UPPER, Response
from cotbal.response.student import t_quantile
from cotbal.scores.interval import TRAINING, Interval

FORMAT = "cotbal prediction 1"
HASH = "sha256"


@dataclass(frozen=True)
class Outcome:
    """One task: prediction and outcome, in % of the score at equal weights.

    Attributes:
        predicted: with the interval that holds the mean of this many seeds with 95 %.
        changes: one per seed, each from a pair of trainings.
    """

    task: str
    predicted: Interval
    changes: tuple[float, ...]

    @property
    def observed(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.changes))

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.changes)

    @property
    def inside(self) -> bool:
        """Whether the outcome lies in the prediction interval."""
        return self.predicted.low <= self.observed <= self.predicted.high


@dataclass(frozen=True)
class Verdict:
    """All tasks of a prediction that have an outcome.

    Attributes:
        outcomes: by task.
        coverage: share of the outcomes inside their intervals.
        correlation: of predicted and observed changes over tasks; NaN for fewer than three.
    """

    outcomes: tuple[Outcome, ...]
    coverage: float
    correlation: float


def freeze(response: Response, choice: Choice, now: datetime | None = None) -> dict[str, Any]:
    """The content of a prediction file: dated, and hashed so that a later change is noticed.

    Args:
        response: what the choice rests on.
        choice: whose predictions are frozen.
        now: the present by default.
    """
    z = doublings(np.array(list(choice.weights.values())))
    errors = response.errors(z)
    predictions = {
        task: {
            **choice.changes[task].to_json(),
            "standard_error": float(errors[i]),
            "noise_of_one_run": float(response.noise[i]),
            "freedom": min(response.freedom, response.freedoms[i]),
        }
        for i, task in enumerate(response.scored)
    }
    reference = {}
    if response.reference is not None:
        of_task = dict(zip(choice.weights, response.reference.tolist(), strict=True))
        reference["reference"] = of_task  # sampling ratios that the weights multiply
    content = {
        "format": FORMAT,
        "date": (now or datetime.now(UTC)).isoformat(timespec="seconds"),
        "trials_sha256": response.source,
        "goal": choice.goal,
        "counted": list(choice.counted),
        "lever": choice.lever.name,
        "weights": dict(choice.weights),
        **reference,
        "keep_equal": choice.keep_equal,
        "gain": choice.gain.to_json(),
        "guards": [vars(guard) for guard in choice.guards],
        "headroom": choice.headroom.to_json(),
        "warnings": list(choice.warnings),
        "unit": "% of the score at equal weights",
        "predictions": predictions,
    }
    return {**content, HASH: _digest(content)}


def read_prediction(path: Path) -> dict[str, Any]:
    """The content of a prediction file.

    Raises:
        CotbalError: `missing-file`, `invalid-prediction` (not such a file) or `changed-prediction`
            (its content is not what was written).
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CotbalError(
            f"{path}: expected a prediction file; {error.strerror}", "missing-file"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CotbalError(
            f"{path}: expected a prediction file as JSON; {error}", "invalid-prediction"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CotbalError(
            f"{path}: expected a prediction that `cotbal steer` wrote, of the format {FORMAT!r}",
            "invalid-prediction",
        )
    if content.pop(HASH, None) != _digest(content):
        raise CotbalError(
            f"{path}: the prediction was changed after {content.get('date')}, when it was written:"
            " its hash does not fit",
            "changed-prediction",
        )
    return content


def is_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the numbers of two predictions agree; the date and words may differ."""
    return _numbers(before) == _numbers(after)


def _numbers(content: Mapping[str, Any]) -> dict[str, Any]:
    predictions = {}
    for task, entry in content["predictions"].items():
        predictions[task] = {key: value for key, value in entry.items() if key != "holds"}
    kept = ("trials_sha256", "goal", "weights", "keep_equal", "guards")
    return {**{key: content[key] for key in kept}, "predictions": predictions}


def compare_with_outcomes(
    prediction: Mapping[str, Any], outcomes: Mapping[str, Sequence[float]]
) -> Verdict:
    """Compare a prediction with final trainings, Eq. R15.

    Args:
        prediction: from `read_prediction`.
        outcomes: task -> relative change of its score, in %, of the trained weights against equal
            weights, one number per training seed.

    Raises:
        CotbalError: `unknown-task`, or `missing-outcome` where a task has no number.
    """
    if not outcomes:
        raise CotbalError("expected the outcome of at least one task", "missing-outcome")
    predictions = prediction["predictions"]
    compared = [_outcome(task, predictions, changes) for task, changes in outcomes.items()]
    inside = [outcome.inside for outcome in compared]
    return Verdict(
        outcomes=tuple(compared),
        coverage=sum(inside) / len(inside),
        correlation=_correlation(compared),
    )


def _correlation(outcomes: Sequence[Outcome]) -> float:
    """Of predicted and observed changes; NaN for fewer than three, or where one does not vary."""
    predicted = np.array([outcome.predicted.value for outcome in outcomes])
    observed = np.array([outcome.observed for outcome in outcomes])
    if len(outcomes) < 3 or not predicted.std() > 0 or not observed.std() > 0:
        return math.nan
    correlations = np.corrcoef(predicted, observed)
    return float(correlations[0, 1])


def _outcome(task: str, predictions: Mapping[str, Any], changes: Sequence[float]) -> Outcome:
    if task not in predictions:
        raise CotbalError(
            f"expected outcomes of {', '.join(predictions)}; found {task!r}", "unknown-task"
        )
    if not len(changes):
        raise CotbalError(f"{task}: expected a change per training seed", "missing-outcome")
    entry = predictions[task]
    # Either training of a pair has the noise of one run.
    of_prediction = entry["standard_error"] ** 2
    of_outcome = 2 * entry["noise_of_one_run"] ** 2 / len(changes)
    variance = of_prediction + of_outcome
    half = t_quantile(UPPER, entry["freedom"]) * math.sqrt(variance)
    value = entry["value"]
    return Outcome(task, Interval(value, value - half, value + half, TRAINING), tuple(changes))


def mean_over_seeds(changes: Sequence[float] | Float[np.ndarray, " seed"]) -> Interval:
    """Mean with its 95 % t interval, which holds the noise of training; one seed has no bounds."""
    mean, count = float(np.mean(changes)), len(changes)
    if count < 2:
        return Interval(mean, noise=TRAINING)
    deviation = float(np.std(changes, ddof=1))
    half = t_quantile(UPPER, count - 1) * deviation / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, TRAINING)


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    # Half a surrogate pair, which JSON can hold, has no UTF-8: such a file was changed.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
