from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cotbal.errors import ScoresError
from cotbal.scores.results import Column, Results, read_results
from helpers.errors import raises

TABLE = "method,ocr:em,grounding:testA.iou,grounding:error-\nSTL,0.5,61.2,4\nEW,0.6,70,3.5\n"


def write(directory: Path, text: str) -> Path:
    path = directory / "results.csv"
    path.write_text(text, encoding="utf-8")
    return path


def rejects(directory: Path, text: str, code: str, *names: object) -> None:
    path = write(directory, text)
    with raises(ScoresError, code, path, *names):
        read_results(path)


def test_reading(tmp_path: Path) -> None:
    results = read_results(write(tmp_path, TABLE))
    assert results.methods == ("STL", "EW")
    assert results.tasks == ("ocr", "grounding")
    assert [column.higher_is_better for column in results.columns] == [True, True, False]
    assert [str(column) for column in results.columns] == [
        "ocr:em",
        "grounding:testA.iou",
        "grounding:error-",
    ]
    np.testing.assert_array_equal(results.values, [[0.5, 61.2, 4], [0.6, 70, 3.5]])


def test_a_task_may_hold_a_colon(tmp_path: Path) -> None:
    assert read_results(write(tmp_path, "method,a:b:em\nx,1\n")).columns == (Column("a:b", "em"),)


def test_writing_and_reading_back_loses_nothing(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(size=(2, 2))
    results = Results(("a, b", "c"), (Column("t", "m"), Column("u", "n-")), values)
    read_back = read_results(write(tmp_path, results.to_csv()))
    assert (read_back.methods, read_back.columns) == (results.methods, results.columns)
    np.testing.assert_array_equal(read_back.values, values)


@pytest.mark.parametrize(
    "text",
    [
        "run,ocr:em\n",
        "method\n",
        "method,ocr\n",
        "method,:em\n",
        "method,ocr:\n",
        "method,,ocr:em\n",
        "\n",
    ],
)
def test_a_header_that_is_not_one(tmp_path: Path, text: str) -> None:
    rejects(tmp_path, text, "invalid-header", "`method,<task>:<metric>,...`")


def test_the_column_without_a_metric_is_named(tmp_path: Path) -> None:
    rejects(tmp_path, "method,a:m,ocr\nx,1,2\n", "invalid-header", "column 'ocr'")


def test_repeated_names(tmp_path: Path) -> None:
    rejects(tmp_path, TABLE + "EW,1,1,1\n", "repeated-name", "method", "'EW'")
    rejects(tmp_path, "method,a:m,a:m\nx,1,2\n", "repeated-name", "task:metric", "'a:m'")


def test_rows_that_are_too_short_or_hold_no_numbers(tmp_path: Path) -> None:
    rejects(tmp_path, TABLE + "TLA,1\n", "wrong-length", "line 4", "3 results", "found 1")
    for cell in ("", "n/a", "nan", "inf"):
        names = ("line 4", "column 'grounding:testA.iou'", repr(cell))
        rejects(tmp_path, TABLE + f"TLA,1,{cell},2\n", "not-a-number", *names)


def test_no_file(tmp_path: Path) -> None:
    with raises(ScoresError, "missing-file", "none.csv", "results"):
        read_results(tmp_path / "none.csv")
