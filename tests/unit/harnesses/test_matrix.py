from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cotbal.errors import ScoresError
from cotbal.scores.harnesses import Benchmark, Evaluation, lmms_eval
from cotbal.scores.harnesses.matrix import columns_of, score_matrix
from helpers.errors import raises

RECORDED = Path(__file__).parent / "recorded" / "lmms_eval"
TEXT = {"ocr": ("cotbal_textvqa", "exact_match")}


def recorded() -> dict[str, Evaluation]:
    return {
        "mini": lmms_eval.read(RECORDED / "EW"),
        "full:ocr": lmms_eval.read(RECORDED / "CoTBal"),
    }


def evaluation(benchmark: Benchmark) -> Evaluation:
    return Evaluation(Path("out"), {benchmark.name: benchmark})


def bench(value: float, scores: list[float], **other: object) -> Benchmark:
    rows = tuple(
        {"doc_id": i, "target": "A", "input": f"q{i}", "em": score}
        for i, score in enumerate(scores)
    )
    return replace(Benchmark("b", {"em": value}, questions=len(scores), rows=rows), **other)  # type: ignore[arg-type]


def matrix_of(**benchmarks: Benchmark):  # type: ignore[no-untyped-def]
    return score_matrix(
        {run: evaluation(b) for run, b in benchmarks.items()}, {"task": ("b", "em")}
    )


def test_scores_and_samples_of_recorded_runs() -> None:
    matrix, reason = score_matrix(recorded(), TEXT)
    assert reason == ""
    assert (matrix.runs, matrix.tasks) == (("mini", "full:ocr"), ("ocr",))
    np.testing.assert_allclose(matrix.values, [[0.725], [0.75]])
    np.testing.assert_allclose(matrix.samples["ocr"].values, [[1, 0.9, 0, 1], [1, 1, 0, 1]])
    assert matrix.samples["ocr"].clusters.tolist() == [0, 1, 2, 3]
    assert matrix.samples["ocr"].maximum == 1


def test_a_percentage_has_samples_in_percent() -> None:
    matrix, reason = score_matrix(recorded(), {"vet": ("cotbal_mmvet", "gpt_eval_score")})
    assert reason == ""
    np.testing.assert_allclose(matrix.samples["vet"].values, [[50, 50, 0], [50, 50, 0]])
    assert matrix.samples["vet"].maximum == 100


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (("pope_adv", "pope_f1_score"), "not the mean of its samples"),
        (("mme", "mme_perception_score"), "no number per sample"),
        (("llava_in_the_wild", "gpt_eval_llava_all"), "no number per sample"),
    ],
)
def test_samples_are_all_there_or_none(column: tuple[str, str], why: str) -> None:
    matrix, reason = score_matrix(recorded(), {**TEXT, "other": column})
    assert matrix.samples == {}
    assert reason == f"{column[0]}, {column[1]}: {why}"
    assert matrix.values.shape == (2, 2)


def test_no_file_of_samples() -> None:
    matrix, reason = matrix_of(mini=bench(0.5, [0, 1]), full=bench(0.5, [0, 1], rows=()))
    assert matrix.samples == {}
    assert reason == "b, em: no file of samples"


def test_values_beyond_one_have_no_known_maximum() -> None:
    matrix, _ = matrix_of(mini=bench(1.5, [0, 3]), full=bench(1.0, [1, 1]))
    assert matrix.samples["task"].maximum == float("inf")


@pytest.mark.parametrize(
    "other",
    [
        bench(0.5, [0, 1], questions=3),
        bench(1 / 3, [0, 1, 0]),
        bench(
            0.5,
            [0, 1],
            rows=tuple({"doc_id": i, "target": "B", "input": f"q{i}", "em": i} for i in range(2)),
        ),
    ],
    ids=["number", "rows", "target"],
)
def test_other_questions_are_refused(other: Benchmark) -> None:
    with raises(ScoresError, "invalid-scores", "full", "mini"):
        matrix_of(mini=bench(0.5, [0, 1]), full=other)


def test_lower_is_better_is_refused() -> None:
    with raises(ScoresError, "invalid-scores", "mini (out), b", "em"):
        matrix_of(mini=bench(0.5, [0, 1], lower_is_better=frozenset({"em"})))


def test_a_missing_benchmark_or_metric_names_the_run() -> None:
    runs = {
        "mini": evaluation(bench(0.5, [0, 1])),
        "full": evaluation(replace(bench(0.5, [0, 1]), name="c")),
    }
    with raises(ScoresError, "invalid-scores", "full (out)"):
        score_matrix(runs, {"task": ("b", "em")})
    with raises(ScoresError, "invalid-scores", "mini (out), b", "'f1'"):
        score_matrix(runs, {"task": ("b", "f1")})


def columns(wanted: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    two = Benchmark("two", {"a:x": 1.0, "b": 2.0})
    return columns_of({"mini": Evaluation(Path("out"), {"one": bench(1, [1]), "two": two})}, wanted)


def test_columns() -> None:
    assert columns({"t": "one"}) == {"t": ("one", "em")}
    assert columns({"t": "two:a:x", "u": "one:em"}) == {"t": ("two", "a:x"), "u": ("one", "em")}
    one = {"mini": evaluation(bench(1, [1]))}
    assert columns_of(one, {}) == {"b": ("b", "em")}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [({"t": "three"}, ("one, two", "'three'")), ({}, ("two=two:METRIC", "a:x, b"))],
)
def test_ambiguous_columns_are_an_error(wanted: Mapping[str, str], names: tuple[str, ...]) -> None:
    with raises(ScoresError, "invalid-scores", *names):
        columns(wanted)
