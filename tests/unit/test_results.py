from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cotbal.errors import ScoresError
from cotbal.scores.results import Column, Results, read_results

TABLE = "method,ocr:em,grounding:testA.iou,grounding:error-\nSTL,0.5,61.2,4\nEW,0.6,70,3.5\n"


def write(directory: Path, text: str) -> Path:
    path = directory / "results.csv"
    path.write_text(text, encoding="utf-8")
    return path


def problem(directory: Path, text: str) -> str:
    with pytest.raises(ScoresError) as caught:
        read_results(write(directory, text))
    return str(caught.value)


def test_reading(tmp_path: Path) -> None:
    found = read_results(write(tmp_path, TABLE))
    assert found.methods == ("STL", "EW")
    assert found.tasks == ("ocr", "grounding")
    assert [column.higher_is_better for column in found.columns] == [True, True, False]
    assert [str(column) for column in found.columns] == [
        "ocr:em",
        "grounding:testA.iou",
        "grounding:error-",
    ]
    np.testing.assert_array_equal(found.values, [[0.5, 61.2, 4], [0.6, 70, 3.5]])


def test_a_task_may_hold_a_colon(tmp_path: Path) -> None:
    assert read_results(write(tmp_path, "method,a:b:em\nx,1\n")).columns == (Column("a:b", "em"),)


def test_writing_and_reading_back_loses_nothing(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(size=(2, 2))
    results = Results(("a, b", "c"), (Column("t", "m"), Column("u", "n-")), values)
    found = read_results(write(tmp_path, results.to_csv()))
    assert (found.methods, found.columns) == (results.methods, results.columns)
    np.testing.assert_array_equal(found.values, values)


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
    assert "expected a header `method,<task>:<metric>,...`" in problem(tmp_path, text)


def test_repeated_names(tmp_path: Path) -> None:
    assert "expected every method once; found 'EW'" in problem(tmp_path, TABLE + "EW,1,1,1\n")
    assert "expected every task:metric once; found 'a:m'" in problem(
        tmp_path, "method,a:m,a:m\nx,1,2\n"
    )


def test_rows_that_are_too_short_or_hold_no_numbers(tmp_path: Path) -> None:
    assert "line 4: expected 3 results after the name of the method; found 1" in problem(
        tmp_path, TABLE + "TLA,1\n"
    )
    for cell in ("", "n/a", "nan", "inf"):
        message = problem(tmp_path, TABLE + f"TLA,1,{cell},2\n")
        assert "line 4, column 'grounding:testA.iou'" in message
        assert repr(cell) in message


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match="expected a CSV table of results"):
        read_results(tmp_path / "none.csv")
