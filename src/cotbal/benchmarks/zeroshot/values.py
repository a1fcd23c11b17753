"""From what lmms-eval wrote about a benchmark to the number in the paper's table, with warnings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cotbal.errors import ScoresError
from cotbal.scores.harnesses import Benchmark, is_number
from cotbal.scores.measure import measure


@dataclass(frozen=True)
class Reading:
    """The number of a column, and what a reader of it should know."""

    value: float
    warnings: tuple[str, ...] = ()


Reader = Callable[[Sequence[Benchmark]], Reading]


def plain(metric: str, scale: float) -> Reader:
    """The metric as lmms-eval computed it, times `scale`."""

    def read(benchmarks: Sequence[Benchmark]) -> Reading:
        (benchmark,) = benchmarks
        if metric not in benchmark.metrics:
            there = ", ".join(benchmark.metrics)
            raise ScoresError(
                f"{benchmark.name}: expected {metric} in the results of lmms-eval; found {there}",
                "missing-results",
            )
        return Reading(scale * benchmark.metrics[metric])

    return read


def mean_f1(benchmarks: Sequence[Benchmark]) -> Reading:
    """POPE: the mean over its three sets of the F1 of `yes`, in %, answers understood as LLaVA
    does.

    The metric of lmms-eval asks for the bare word and pools the sets.
    """
    answers = []
    references = []
    details = []
    for benchmark in benchmarks:
        for row in _rows(benchmark):
            answers.append(str(_field(row, "filtered_resps", benchmark)))
            references.append([str(_field(row, "target", benchmark))])
            details.append({"details": {"category": benchmark.name}})
    return Reading(100 * measure("pope_f1", answers, references, details).score)


def graded(metric: str) -> Reader:
    """MM-Vet: mean grade in %; lmms-eval counts an answer that the judge did not grade as 0, it is
    left out here.
    """

    def read(benchmarks: Sequence[Benchmark]) -> Reading:
        (benchmark,) = benchmarks
        grades = [_judged(row, metric, benchmark) for row in _rows(benchmark)]
        given = [grade for grade in grades if _field(grade, "eval_model", benchmark)]
        known = [_number(_field(grade, "score", benchmark), benchmark) for grade in given]
        return Reading(100 * _mean(known, benchmark), _left_out(len(grades), len(known)))

    return read


def relative(metric: str) -> Reader:
    """LLaVA-Bench: points of the model in % of those of the reference; lmms-eval counts a failure
    as -1 point each.
    """

    def read(benchmarks: Sequence[Benchmark]) -> Reading:
        (benchmark,) = benchmarks
        pairs = [_points(_judged(row, metric, benchmark), benchmark) for row in _rows(benchmark)]
        known = [pair for pair in pairs if min(pair) >= 0]
        reference = _mean([points for points, _ in known], benchmark)
        model = _mean([points for _, points in known], benchmark)
        if not reference:
            raise ScoresError(
                f"{benchmark.name}: expected points above 0 for some reference; the judge gave all"
                " of them 0",
                "no-ratings",
            )
        return Reading(100 * model / reference, _left_out(len(pairs), len(known)))

    return read


def _rows(benchmark: Benchmark) -> tuple[Any, ...]:
    if not benchmark.rows:
        raise ScoresError(
            f"{benchmark.name}: expected answers beside the results (--log_samples); found none",
            "missing-results",
        )
    return benchmark.rows


def _field(row: Mapping[str, Any], key: str, benchmark: Benchmark) -> Any:
    if key not in row:
        raise ScoresError(
            f"{benchmark.name}: expected {key} with every answer; found {', '.join(row)}",
            "missing-results",
        )
    return row[key]


def _judged(row: Mapping[str, Any], metric: str, benchmark: Benchmark) -> dict[str, Any]:
    judgement = _field(row, metric, benchmark)
    if not isinstance(judgement, dict):
        raise ScoresError(
            f"{benchmark.name}: expected a mapping at {metric} of every answer; found"
            f" {judgement!r:.60}",
            "wrong-type",
        )
    return judgement


def _points(judgement: Mapping[str, Any], benchmark: Benchmark) -> tuple[float, float]:
    """Points of the reference and of the model."""
    pair = _field(judgement, "scores", benchmark)
    if not isinstance(pair, list) or len(pair) != 2:
        raise ScoresError(
            f"{benchmark.name}: expected the points of reference and model; found {pair!r:.60}",
            "wrong-type",
        )
    return _number(pair[0], benchmark), _number(pair[1], benchmark)


def _number(value: Any, benchmark: Benchmark) -> float:
    if not is_number(value):
        raise ScoresError(
            f"{benchmark.name}: expected a number from the judge; found {value!r:.60}", "wrong-type"
        )
    return float(value)


def _mean(values: Sequence[float], benchmark: Benchmark) -> float:
    if not values:
        raise ScoresError(
            f"{benchmark.name}: expected grades of the judge; found none; see the log, and rerun",
            "no-ratings",
        )
    return float(np.mean(values))


def _left_out(asked: int, known: int) -> tuple[str, ...]:
    if asked == known:
        return ()
    return (f"the judge graded {known} of {asked} answers; the others are left out",)


def remarks(benchmark: Benchmark, expected: Sequence[int] | None) -> list[str]:
    """What is unusual about a benchmark: another number of questions than it has, or answers
    without a word.
    """
    warnings = []
    if expected is not None and benchmark.questions not in expected:
        wanted = " or ".join(map(str, expected))
        warnings.append(
            f"{benchmark.name}: expected {wanted} questions; found {benchmark.questions}"
        )
    empty = sum(not str(row.get("filtered_resps", "")).strip() for row in benchmark.rows)
    if empty:
        warnings.append(f"{benchmark.name}: {empty} of {len(benchmark.rows)} answers are empty")
    return warnings
