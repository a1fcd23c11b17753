"""Compute metrics (docs/metrics.md): from answers and references to the score of every sample."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from cotbal import plugins
from cotbal.errors import CotbalError
from cotbal.scores.code_digest import code_digest
from cotbal.scores.matrix import Measured

FindProblem = Callable[[Sequence[str]], str]
FACTS = ("MAXIMUM", "HIGHER_IS_BETTER")
PARTS = (*FACTS, "score", "constant_answer")


def load_metric(name: str) -> ModuleType:
    """The metric called `name`: a file of `cotbal.metrics`, or the dotted path of a user's own.

    Raises:
        CotbalError: no such metric, a part is missing, or lower is better. All functions of this
            module raise it.
    """
    module = plugins.load("cotbal.metrics", name)
    parts = FACTS if hasattr(module, "GIVEN_BY") else PARTS
    missing = [part for part in parts if not hasattr(module, part)]
    if missing:
        raise CotbalError(
            f"metric {name}: expected a module with {', '.join(parts)}; missing in"
            f" {module.__file__}: {', '.join(missing)}",
            "invalid-metric",
        )
    if module.HIGHER_IS_BETTER is not True:
        raise CotbalError(
            f"metric {name}: expected HIGHER_IS_BETTER = True, since the equations divide by gains;"
            f" found {module.HIGHER_IS_BETTER!r}; use another form, such as 1 - error",
            "invalid-metric",
        )
    return module


def given_by(name: str) -> str | None:
    """The command that provides the scores of a metric, as for `judge`; None if computed here."""
    command: str | None = getattr(load_metric(name), "GIVEN_BY", None)
    return command


def source_of(name: str) -> str:
    """Digest of the code of a metric and of all that it imports."""
    return code_digest(load_metric(name), sys.modules[__name__])


def is_stale(name: str, source: str | None) -> bool:
    """Whether scores must be recomputed: there are none, or `source_of` was not `source`.

    Scores that another command provides are never stale here.
    """
    return given_by(name) is None and source != source_of(name)


def reads_details(name: str) -> bool:
    """Whether a metric uses other fields of the records."""
    metric = load_metric(name)
    functions = [getattr(metric, part, None) for part in ("score", "weights")]
    return hasattr(metric, "GIVEN_BY") or any(map(_takes_records, filter(None, functions)))


def _takes_records(function: Callable[..., Any]) -> bool:
    return "records" in inspect.signature(function).parameters


def problem_finder(name: str) -> FindProblem | None:
    """A function that validates the references of a sample: why they are invalid, or an empty text.

    None if the metric accepts any reference; others offer `problem_of(references)`.
    """
    problem_of = getattr(load_metric(name), "problem_of", None)
    if problem_of is None:
        return None

    def find(references: Sequence[str]) -> str:
        problem = problem_of(references)
        return f"{name}: {problem}" if problem else ""

    return find


def measure(
    name: str,
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    records: Sequence[Mapping[str, Any]] | None = None,
) -> Measured:
    """Score every answer.

    Args:
        name: of the metric.
        predictions: one answer per sample.
        references: the right answers of every sample.
        records: other fields of every sample, for metrics that use them: `images`, and `details`
            such as a category.

    Raises:
        CotbalError: no such metric, samples that it cannot score, or an invalid result.
    """
    metric = load_metric(name)
    if hasattr(metric, "GIVEN_BY"):
        raise CotbalError(
            f"metric {name}: cannot be computed from answers and references; its scores come from"
            f" `{metric.GIVEN_BY}`",
            "scores-from-elsewhere",
        )
    known = [{}] * len(references) if records is None else records
    values = _numbers(name, metric.score, predictions, references, known)
    if not hasattr(metric, "weights"):
        return Measured(values)
    weights = _numbers(name, metric.weights, predictions, references, known)
    if np.any(weights < 0):
        raise CotbalError(
            f"metric {name}: expected weights of 0 or more; found {weights.min():g}",
            "invalid-metric",
        )
    return Measured(values, weights)


def _numbers(
    name: str,
    function: Callable[..., Any],
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    records: Sequence[Mapping[str, Any]],
) -> np.ndarray:
    """The result of a function of the metric, called with `records` if it has that parameter."""
    known = {"records": records} if _takes_records(function) else {}
    values = np.asarray(function(predictions, references, **known), dtype=float)
    if values.shape != (len(predictions),) or not np.isfinite(values).all():
        raise CotbalError(
            f"metric {name}: expected of {function.__name__} one finite number for each of"
            f" {len(predictions)} samples; found {_described(values, len(predictions))}",
            "invalid-metric",
        )
    return values


def _described(values: np.ndarray, n: int) -> str:
    if values.shape != (n,):
        return f"an array of shape {values.shape}"
    sample = int(np.flatnonzero(~np.isfinite(values))[0])
    return f"{values[sample]} for sample {sample + 1}"
