"""A metric at work: answers and references in, the score of every sample out (docs/metrics.md says
what one is).
"""

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
        CotbalError: there is none, it lacks a part, or lower is better.
    """
    module = plugins.load("cotbal.metrics", name)
    parts = FACTS if hasattr(module, "GIVEN_BY") else PARTS
    missing = [part for part in parts if not hasattr(module, part)]
    if missing:
        raise CotbalError(
            f"metric {name}: expected a module with {', '.join(parts)}; found none called"
            f" {', '.join(missing)} in {module.__file__}"
        )
    if module.HIGHER_IS_BETTER is not True:
        raise CotbalError(
            f"metric {name}: expected HIGHER_IS_BETTER = True, since the equations divide by gains;"
            f" found {module.HIGHER_IS_BETTER!r}; turn it round, such as 1 - error"
        )
    return module


def given_by(name: str) -> str | None:
    """The command that gives the scores of a metric which nothing here can compute, a judge's; None
    for all others.

    Raises:
        CotbalError: there is no such metric.
    """
    command: str | None = getattr(load_metric(name), "GIVEN_BY", None)
    return command


def source_of(name: str) -> str:
    """Digest of the code that makes the scores of the metric called `name`, with all it imports.

    Raises:
        CotbalError: there is no such metric.
    """
    return code_digest(load_metric(name), sys.modules[__name__])


def is_stale(name: str, source: str | None) -> bool:
    """Whether scores whose `source_of` was `source` have to be made again; None: there are none, or
    nobody knows what made them.

    Scores that another command gives are never stale here.

    Raises:
        CotbalError: there is no such metric.
    """
    return given_by(name) is None and source != source_of(name)


def reads_details(name: str) -> bool:
    """Whether the metric called `name` is given what else a record says of a sample.

    Raises:
        CotbalError: there is no such metric.
    """
    metric = load_metric(name)
    functions = [getattr(metric, part, None) for part in ("score", "weights")]
    return hasattr(metric, "GIVEN_BY") or any(map(_takes_records, filter(None, functions)))


def _takes_records(function: Callable[..., Any]) -> bool:
    return "records" in inspect.signature(function).parameters


def problem_finder(name: str) -> FindProblem | None:
    """What says which references the metric called `name` cannot score, before anything is spent on
    an answer.

    It gives the error in the references of one sample, or an empty text. None when the metric takes
    any reference: one that does not offers `problem_of(references)`.

    Raises:
        CotbalError: there is no such metric.
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
        predictions: one answer a sample.
        references: the right answers of every sample.
        records: what else is known of every sample, for metrics that ask: `images`, and `details`
            such as a category.

    Raises:
        CotbalError: there is no such metric, it cannot score these samples, or gives something else
            than one number for each.
    """
    metric = load_metric(name)
    if hasattr(metric, "GIVEN_BY"):
        raise CotbalError(
            f"metric {name}: answers and references are not enough; `{metric.GIVEN_BY}` gives its"
            " scores"
        )
    known = [{}] * len(references) if records is None else records
    values = _numbers(name, metric.score, predictions, references, known)
    if not hasattr(metric, "weights"):
        return Measured(values)
    weights = _numbers(name, metric.weights, predictions, references, known)
    if np.any(weights < 0):
        raise CotbalError(f"metric {name}: expected weights of 0 or more; found {weights.min():g}")
    return Measured(values, weights)


def _numbers(
    name: str,
    function: Callable[..., Any],
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    records: Sequence[Mapping[str, Any]],
) -> np.ndarray:
    """What a function of the metric gives, which takes the records only if it has a parameter of
    that name.
    """
    known = {"records": records} if _takes_records(function) else {}
    found = np.asarray(function(predictions, references, **known), dtype=float)
    if found.shape != (len(predictions),) or not np.isfinite(found).all():
        raise CotbalError(
            f"metric {name}: expected of {function.__name__} one finite number for each of"
            f" {len(predictions)} samples; found {_what(found, len(predictions))}"
        )
    return found


def _what(found: np.ndarray, n: int) -> str:
    if found.shape != (n,):
        return f"an array of shape {found.shape}"
    place = int(np.flatnonzero(~np.isfinite(found))[0])
    return f"{found[place]} for sample {place + 1}"
