"""Tables of trials: what is read, what is rejected and where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cotbal.errors import ScoresError
from cotbal.response import read_trials
from helpers.errors import raises
from helpers.simulated_trials import drawn_effects, trials_of

HEADER = "weight:a,weight:b,score:a,score:b,seed\n"
LINES = "1,1,0.5,0.6,0\n2,0.5,0.52,0.58,0\n"


def written(directory: Path, text: str, name: str = "trials.csv") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    trials = trials_of(drawn_effects(5), noise=1.0)
    again = read_trials(written(tmp_path, trials.to_csv()))
    assert (again.tasks, again.scored, again.seeds) == (trials.tasks, trials.scored, trials.seeds)
    assert np.array_equal(again.weights, trials.weights)
    assert np.array_equal(again.scores, trials.scores)
    assert len(again.source) == 64


def test_columns_may_come_in_any_order_and_others_are_ignored(tmp_path: Path) -> None:
    text = "note,score:b,weight:b,weight:a,score:guard\nx,0.6,1,2,0.1\n\ny,0.5,0.5,1,0.2\n"
    trials = read_trials(written(tmp_path, text))
    assert (trials.tasks, trials.scored) == (("b", "a"), ("b", "guard"))
    assert trials.weights.tolist() == [[1, 2], [0.5, 1]]
    assert trials.seeds == ("", "")
    assert trials.doublings.tolist() == [[-0.5, 0.5], [-0.5, 0.5]]


def test_a_ratio_counts_like_a_weight(tmp_path: Path) -> None:
    """Twice the ratio is twice the weight; 1 is the geometric mean over trials."""
    text = "weight:a,weight:b,ratio:a,ratio:b,score:a\n1,1,0.2,0.8,1\n1,1,0.8,0.2,1\n4,1,.2,.8,1\n"
    trials = read_trials(written(tmp_path, text))
    z = trials.doublings
    assert z[1] - z[0] == pytest.approx([2, -2])
    assert z[2] - z[0] == pytest.approx([1, -1])
    assert trials.reference is not None
    assert trials.reference.sum() == pytest.approx(1)


def test_a_ratio_of_0_is_raised_by_the_resolution_of_the_table(tmp_path: Path) -> None:
    text = "ratio:a,ratio:b,score:a\n0,1,1\n0.25,0.75,1\n"
    trials = read_trials(written(tmp_path, text))
    assert trials.positive_ratios is not None
    assert trials.positive_ratios.tolist() == [[0.25, 1.25], [0.5, 1.0]]
    assert trials.weights.tolist() == [[1, 1], [1, 1]]


def test_the_tables_of_olmix(tmp_path: Path) -> None:
    written(tmp_path, "run_id,name,a,b\nr1,x,0.5,0.5\nr2,y,0.8,0.2\n", "ratios.csv")
    written(tmp_path, "run_id,a:error\nr2,0.3\nr1,0.4\n", "metrics.csv")
    trials = read_trials(tmp_path)
    assert trials.lower_is_better
    assert (trials.tasks, trials.scored) == (("a", "b"), ("a:error",))
    assert trials.scores.tolist() == [[0.4], [0.3]]
    assert trials.doublings[1, 0] > trials.doublings[0, 0]


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        (HEADER + LINES.replace("2,", "0,", 1), "not-positive", "line 3"),
        (HEADER + LINES.replace("0.52", "-0.52"), "not-positive", "score:a"),
        (HEADER + LINES.replace("0.52", "high"), "not-a-number", "line 3"),
        (HEADER + LINES.replace("0.52", ""), "missing-score", "line 3"),
        (HEADER + LINES.replace("0.52", "inf"), "not-a-number", "line 3"),
        (HEADER + LINES + "1,1\n", "wrong-length", "line 4"),
        (HEADER, "missing-column", "trials.csv"),
        ("", "missing-column", "trials.csv"),
        ("weight:a,score:a\n1,1\n", "missing-column", "weight:a"),
        ("weight:a,weight:b\n1,1\n", "missing-column", "score:"),
        ("weight:a,weight:a,score:a\n1,1,1\n", "repeated-name", "weight:a"),
        ("weight:a,weight:b,ratio:a,ratio:c,score:a\n1,1,1,1,1\n", "missing-column", "b, c"),
        ("ratio:a,ratio:b,score:a\n-0.1,1.1,1\n", "not-positive", "ratio:a"),
    ],
)
def test_a_table_that_is_wrong(tmp_path: Path, text: str, code: str, named: str) -> None:
    with raises(ScoresError, code, named):
        read_trials(written(tmp_path, text))


def test_files_that_are_not_there_or_do_not_fit(tmp_path: Path) -> None:
    with raises(ScoresError, "missing-file", "none.csv"):
        read_trials(tmp_path / "none.csv")
    written(tmp_path, "run_id,a,b\nr1,0.5,0.5\n", "ratios.csv")
    with raises(ScoresError, "missing-file", "metrics.csv"):
        read_trials(tmp_path)
    written(tmp_path, "run_id,a\nr2,0.5\n", "metrics.csv")
    with raises(ScoresError, "missing-run", "r1"):
        read_trials(tmp_path)
    written(tmp_path, "run_id\nr1\n", "metrics.csv")
    with raises(ScoresError, "missing-column", tmp_path):
        read_trials(tmp_path)
    written(tmp_path, "name,a\nr1,1\n", "metrics.csv")
    with raises(ScoresError, "missing-column", "run_id"):
        read_trials(tmp_path)


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"weight:a,\xff\n")
    with raises(ScoresError, "not-csv", "t.csv"):
        read_trials(tmp_path / "t.csv")


@pytest.mark.parametrize(("separator", "point"), [(";", ","), (";", "."), ("\t", ".")])
def test_tables_of_spreadsheets_are_the_same(tmp_path: Path, separator: str, point: str) -> None:
    text = HEADER + LINES
    exported = text.replace(",", separator).replace(".", point)
    trials = read_trials(written(tmp_path, exported))
    expected = read_trials(written(tmp_path, text, "commas.csv"))
    assert (trials.tasks, trials.scored) == (expected.tasks, expected.scored)
    assert trials.seeds == expected.seeds
    assert trials.weights.tolist() == expected.weights.tolist()
    assert trials.scores.tolist() == expected.scores.tolist()


def test_a_decimal_comma_between_tabs_is_no_number(tmp_path: Path) -> None:
    """It may separate thousands there."""
    text = (HEADER + LINES).replace(",", "\t").replace(".", ",")
    with raises(ScoresError, "not-a-number", "line 3", "'0,5'"):
        read_trials(written(tmp_path, text))
