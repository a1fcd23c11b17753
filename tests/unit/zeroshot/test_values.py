from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cotbal.benchmarks.zeroshot.columns import COLUMNS, OTHERS, ZeroShot, columns_named
from cotbal.benchmarks.zeroshot.values import graded, mean_f1, plain, relative, remarks
from cotbal.errors import CotbalError, ScoresError
from cotbal.scores.harnesses import Benchmark, lmms_eval
from helpers.errors import names_all, raises
from helpers.fake_lmms import RECORDED

EW = {
    "TextVQA": 72.5,
    "POPE": 100 * (4 / 5 + 2 / 3 + 1) / 3,
    "MME": 2000,
    "SQA": 50,
    "MMBench": 100 / 3,
    "SEED-IMG": 75,
    "MM-Vet": 100 / 3,
    "LLaVA-W": 75,
}


def benchmarks(column: ZeroShot, model: str = "EW") -> list[Benchmark]:
    all_benchmarks = lmms_eval.read(RECORDED / model).benchmarks
    return [all_benchmarks[task] for task in column.tasks]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_the_columns_of_recorded_results(column: ZeroShot) -> None:
    """Scripted answers, scored by the code of lmms-eval: counted by hand."""
    assert column.read(benchmarks(column)).value == pytest.approx(EW[column.name])


def test_the_columns_are_those_of_the_paper() -> None:
    names = ["TextVQA", "POPE", "MME", "SQA", "MMBench", "SEED-IMG", "MM-Vet", "LLaVA-W"]
    assert [column.name for column in COLUMNS] == names
    assert columns_named("all") == COLUMNS
    assert [column.name for column in columns_named(" sqa, POPE ")] == ["POPE", "SQA"]
    assert columns_named("SQA-IMG,all") == (*COLUMNS, *OTHERS)


@pytest.mark.parametrize("text", ["", "SQA,GQA", ","])
def test_an_unknown_column(text: str) -> None:
    with raises(CotbalError, "invalid-option", "--columns", "TextVQA, POPE"):
        columns_named(text)


def answers(*pairs: tuple[str, str]) -> Benchmark:
    rows = tuple({"doc_id": i, "filtered_resps": a, "target": t} for i, (a, t) in enumerate(pairs))
    return Benchmark("pope", {}, questions=len(rows), rows=rows)


def test_f1_without_any_yes_is_zero() -> None:
    assert mean_f1([answers(("no", "no"))]).value == 0
    assert mean_f1([answers(("no", "yes"))]).value == 0


def test_the_f1_of_the_harness_is_another() -> None:
    pooled = benchmarks(columns_named("POPE")[0])
    assert pooled[0].metrics["pope_f1_score"] == pytest.approx(
        2 / 3
    )  # "yes, there is." is no yes to it


def graded_rows(*grades: tuple[float, str]) -> Benchmark:
    rows = tuple({"g": {"score": score, "eval_model": model}} for score, model in grades)
    return Benchmark("vet", {"g": 0.0}, questions=len(rows), rows=rows)


def test_answers_that_the_judge_did_not_grade_are_left_out_and_counted() -> None:
    reading = graded("g")([graded_rows((1.0, "gpt"), (0.0, ""), (0.5, "gpt"))])
    assert reading.value == pytest.approx(75)
    (warning,) = reading.warnings
    assert names_all(warning, "2 of 3")
    column = columns_named("LLaVA-W")[0]
    (benchmark,) = benchmarks(column)
    assert (
        benchmark.metrics["gpt_eval_llava_all"] == 73.9
    )  # lmms-eval takes the failure for -1 point each
    (warning,) = column.read([benchmark]).warnings
    assert names_all(warning, "3 of 4")


def test_a_judge_that_graded_nothing_is_no_score() -> None:
    with raises(ScoresError, "no-ratings", "vet"):
        graded("g")([graded_rows((0.0, ""), (0.0, ""))])
    rows = ({"r": {"scores": [-1, -1]}},)
    with raises(ScoresError, "no-ratings", "wild"):
        relative("r")([Benchmark("wild", {"r": 100.0}, rows=rows)])


def test_what_is_missing_is_named() -> None:
    with raises(ScoresError, "missing-results", "b:", "em", "f1"):
        plain("em", 1)([Benchmark("b", {"f1": 1.0})])
    with raises(ScoresError, "missing-results", "b:", "--log_samples"):
        graded("g")([Benchmark("b", {})])
    with raises(ScoresError, "missing-results", "b:", "doc_id"):
        graded("g")([Benchmark("b", {}, rows=({"doc_id": 0},))])


def _changed(row: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """The row with other values; None removes a key."""
    return {key: value for key, value in {**row, **change}.items() if value is not None}


@pytest.mark.parametrize(
    ("column", "change", "code", "name"),
    [
        ("POPE", {"target": None}, "missing-results", "target"),
        ("POPE", {"filtered_resps": None}, "missing-results", "filtered_resps"),
        ("MM-Vet", {"gpt_eval_score": {"score": 1}}, "missing-results", "eval_model"),
        (
            "MM-Vet",
            {"gpt_eval_score": {"score": "1", "eval_model": "m"}},
            "wrong-type",
            "'1'",
        ),
        ("MM-Vet", {"gpt_eval_score": 1}, "wrong-type", "gpt_eval_score"),
        ("LLaVA-W", {"gpt_eval_llava_all": {}}, "missing-results", "scores"),
        ("LLaVA-W", {"gpt_eval_llava_all": {"scores": [8]}}, "wrong-type", "[8]"),
        ("LLaVA-W", {"gpt_eval_llava_all": {"scores": [0, 8]}}, "no-ratings", "0"),
    ],
)
def test_answers_of_another_version_are_rejected(
    column: str, change: dict[str, object], code: str, name: str
) -> None:
    (chosen,) = columns_named(column)
    changed = [
        replace(benchmark, rows=tuple(_changed(row, change) for row in benchmark.rows))
        for benchmark in benchmarks(chosen)
    ]
    with raises(ScoresError, code, changed[0].name, name):
        chosen.read(changed)


def test_remarks() -> None:
    benchmark = answers(("yes", "yes"), (" ", "no"))
    (empty,) = remarks(benchmark, (2, 3))
    assert names_all(empty, "pope", "1 of 2")
    too_few, still_empty = remarks(benchmark, (3, 4))
    assert names_all(too_few, "pope", 3, 4, 2)
    assert still_empty == empty
    assert remarks(answers(("yes", "yes")), None) == []


def test_every_task_file_is_that_of_a_column() -> None:
    folder = Path(__file__).parents[3] / "src/cotbal/benchmarks/zeroshot/lmms/tasks"
    ours = {
        task
        for column in (*COLUMNS, *OTHERS)
        for task in column.tasks
        if task.startswith("cotbal_")
    }
    assert {path.stem for path in folder.glob("*.yaml")} == ours
