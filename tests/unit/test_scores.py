from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotbal.errors import ScoresError
from cotbal.scores.matrix import Measured, Samples, ScoreMatrix, read_measured, read_scores
from helpers.errors import raises

NAMES = st.text("abcXYZ019_.- ,\"'äß", min_size=1, max_size=8).map(str.strip).filter(bool)
TABLE = "run,a,b\nmini,0.1,0.2\nfull:a,0.5,0.3\n"


def write(directory: Path, text: str, encoding: str = "utf-8") -> Path:
    path = directory / "scores.csv"
    path.write_bytes(text.encode(encoding))
    return path


def rejected(directory: Path, text: str, code: str, *names: object) -> None:
    """An invalid table; the error always names the file."""
    path = write(directory, text)
    with raises(ScoresError, code, path, *names):
        read_scores(path)


def test_read(tmp_path: Path) -> None:
    scores = read_scores(write(tmp_path, TABLE))
    assert scores.runs == ("mini", "full:a")
    assert scores.tasks == ("a", "b")
    np.testing.assert_array_equal(scores.values, [[0.1, 0.2], [0.5, 0.3]])
    assert scores.samples == {}


@given(
    st.lists(NAMES, min_size=1, max_size=4, unique=True),
    st.lists(NAMES, min_size=1, max_size=4, unique=True),
    st.randoms(use_true_random=False),
)
def test_round_trip_keeps_every_bit(
    tmp_path_factory: pytest.TempPathFactory, tasks: list[str], runs: list[str], random: object
) -> None:
    values = np.array([[random.gauss(0, 1e3) for _ in tasks] for _ in runs])  # type: ignore[attr-defined]
    matrix = ScoreMatrix(tuple(runs), tuple(tasks), values)
    scores = read_scores(write(tmp_path_factory.mktemp("table"), matrix.to_csv()))
    assert (scores.runs, scores.tasks) == (matrix.runs, matrix.tasks)
    np.testing.assert_array_equal(scores.values, matrix.values)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + TABLE,
        TABLE.replace("\n", "\r\n"),
        TABLE.replace(",", " , "),
        "\n" + TABLE + "\n\n , ,\n",
        TABLE.rstrip("\n"),
        TABLE.replace("0.1", '"0.1"').replace("full:a", '"full:a"'),
        TABLE.replace("0.1", "1e-1"),
        TABLE.replace(",", ";").replace(".", ","),
        TABLE.replace(",", ";").replace("0.1", "1,0E-1"),
        TABLE.replace(",", "\t"),
    ],
    ids=[
        "byte order mark",
        "windows line ends",
        "spaces",
        "empty lines",
        "no last line end",
        "quotes",
        "exponent",
        "semicolons and decimal commas",
        "semicolons",
        "tabs",
    ],
)
def test_spreadsheets_write_it_in_their_own_way(tmp_path: Path, text: str) -> None:
    scores = read_scores(write(tmp_path, text))
    assert scores.runs == ("mini", "full:a")
    assert scores.tasks == ("a", "b")
    np.testing.assert_array_equal(scores.values, [[0.1, 0.2], [0.5, 0.3]])


@pytest.mark.parametrize("text", ["", "\n\n", " , \n"])
def test_empty(tmp_path: Path, text: str) -> None:
    rejected(tmp_path, text, "invalid-header")


@pytest.mark.parametrize("header", ["name,a,b", "run", "run,,b", "run|a|b", "mini,0.1,0.2"])
def test_header(tmp_path: Path, header: str) -> None:
    first = header.split(",", maxsplit=1)[0]
    rejected(
        tmp_path, TABLE.replace("run,a,b", header), "invalid-header", "`run,<task>,...`", first
    )


def test_a_repeated_run(tmp_path: Path) -> None:
    rejected(tmp_path, TABLE + "mini,0.1,0.2\n", "repeated-name", "'mini'")


def test_a_repeated_task(tmp_path: Path) -> None:
    rejected(tmp_path, TABLE.replace("run,a,b", "run,a,a"), "repeated-name", "'a'")


@pytest.mark.parametrize(
    ("row", "cells"), [("full:b,0.1", 1), ("full:b,0.1,0.2,0.3", 3), ("full:b", 0)]
)
def test_a_ragged_row(tmp_path: Path, row: str, cells: int) -> None:
    rejected(tmp_path, TABLE + row + "\n", "wrong-length", "line 4", 2, cells)


@pytest.mark.parametrize("cell", ["nan", "inf", "-Infinity", "n/a", "0,5", "12%"])
def test_a_cell_that_is_no_finite_number(tmp_path: Path, cell: str) -> None:
    row = f'full:b,0.1,"{cell}"\n'
    rejected(tmp_path, TABLE + row, "not-a-number", "line 4, column 'b'", repr(cell))


def test_no_such_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with raises(ScoresError, "missing-file", path):
            read_scores(path)


def test_not_a_text(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes(b"run,a\nmini,\xff\xfe\n")
    with raises(ScoresError, "not-csv", path):
        read_scores(path)


def test_a_cell_longer_than_csv_can_read(tmp_path: Path) -> None:
    rejected(tmp_path, TABLE + "full:b,0.1," + "9" * 200_000 + "\n", "not-csv")


def test_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    scores = read_scores(write(tmp_path, "run,a,b\n"))
    assert scores.values.shape == (0, 2)
    with raises(ScoresError, "invalid-scores", "'mini'"):
        scores.row("mini")


def test_row(tmp_path: Path) -> None:
    scores = read_scores(write(tmp_path, TABLE))
    assert scores.row("full:a") == 1
    with raises(ScoresError, "invalid-scores", "'full:b'", "mini, full:a"):
        scores.row("full:b")


def test_a_score_without_weights_is_the_plain_mean() -> None:
    measured = Measured(np.array([0.0, 1.0, 0.5]))
    assert measured.score == 0.5
    assert measured.linear is measured.values


def test_a_weighted_score_and_its_linear_values() -> None:
    """F1 of one true positive (2), one miss (1) and one true negative (0): 2 / 3."""
    measured = Measured(np.array([1.0, 0.0, 1.0]), np.array([2.0, 1.0, 0.0]))
    assert measured.score == pytest.approx(2 / 3)
    np.testing.assert_allclose(measured.linear, [4 / 3, 0, 2 / 3])


def test_only_proportions_of_weights_matter() -> None:
    values, weights = np.array([1.0, 0.0, 0.5]), np.array([3.0, 1.0, 4.0])
    one, other = Measured(values, weights), Measured(values, 8 * weights)
    assert one.score == other.score
    np.testing.assert_array_equal(one.linear, other.linear)
    np.testing.assert_allclose(Measured(values, np.full(3, 0.1)).linear, values, atol=1e-15)


def test_where_no_sample_counts_the_score_is_zero() -> None:
    measured = Measured(np.ones(3), np.zeros(3))
    assert measured.score == 0
    assert measured.linear.tolist() == [0, 0, 0]


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=20))
def test_measured_survives_the_way_to_disk(pairs: list[tuple[float, float]]) -> None:
    values, weights = np.array(pairs).T
    for measured in (Measured(values), Measured(values, weights)):
        again = read_measured(measured.to_json("x_"), "x_")
        np.testing.assert_array_equal(again.values, measured.values)
        assert (again.weights is None) == (measured.weights is None)
        np.testing.assert_allclose(again.linear, measured.linear, rtol=1e-12)
        assert measured.linear.mean() == pytest.approx(measured.score, abs=1e-9)


def with_samples() -> ScoreMatrix:
    samples = {
        "a": Samples(np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([0, 0]), 1.0),
        "b": Samples(np.array([[2.0], [np.nan]]), np.array([0]), float("inf")),
    }
    return ScoreMatrix(
        ("mini", "full:a"), ("a", "b"), np.array([[0.5, 2.0], [1.0, np.nan]]), samples
    )


def test_json_keeps_the_samples(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    before = with_samples()
    path.write_text(json.dumps(before.to_json(), allow_nan=False))
    scores = read_scores(path)
    assert (scores.runs, scores.tasks) == (before.runs, before.tasks)
    np.testing.assert_array_equal(scores.values, before.values)
    for task, samples in before.samples.items():
        np.testing.assert_array_equal(scores.samples[task].values, samples.values)
        np.testing.assert_array_equal(scores.samples[task].clusters, samples.clusters)
        assert scores.samples[task].maximum == samples.maximum
    bare = ScoreMatrix(("mini",), ("a",), np.array([[0.1]]))
    path.write_text(json.dumps(bare.to_json()))
    assert read_scores(path).samples == {}


@pytest.mark.parametrize(
    "change",
    [
        {"runs": ["mini", "mini"]},
        {"runs": "mi"},
        {"runs": [["mini"], "full:a"]},
        {"tasks": [1, 2]},
        {"tasks": ["a"]},
        {"values": [[0.5, 2.0]]},
        {"values": [[0.5, "x"], [1.0, 1.0]]},
        {"values": [[0.5, float("inf")], [1.0, 1.0]]},
        {"samples": {"a": {"values": [[0], [1]], "clusters": [0], "maximum": 1}}},
        {"samples": {"a": {"values": [[0], [1]], "clusters": [0, 1], "maximum": 1}}},
        {"samples": {"a": {"values": [[0], [1]], "clusters": [-1], "maximum": 1}}},
        {"samples": {"a": {"values": [[0], [1]], "maximum": 1}}},
        {
            "samples": {
                name: {"values": [[0], [1]], "clusters": [0], "maximum": -1} for name in "ab"
            }
        },
        {"samples": {name: {"values": [[0], [1]], "clusters": [0], "maximum": 0} for name in "ab"}},
        {"samples": [1]},
    ],
)
def test_json_that_is_none_of_ours(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({**with_samples().to_json(), **change}))
    with raises(ScoresError, "invalid-scores", path):
        read_scores(path)
    for text in ("", "[1]", "null"):
        path.write_text(text)
        with raises(ScoresError, "invalid-scores", path, "cotbal import"):
            read_scores(path)


def test_clusters_are_renumbered(tmp_path: Path) -> None:
    scores = with_samples().to_json()
    task = next(iter(scores["samples"].values()))
    expected = np.unique(task["clusters"], return_inverse=True)[1]
    task["clusters"] = [number * 10**9 + 5 for number in task["clusters"]]
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(scores))
    read = read_scores(path)
    assert next(iter(read.samples.values())).clusters.tolist() == expected.tolist()


@pytest.mark.parametrize("clusters", [[0.5], [10**30], ["a"], [[0]], None, {"a": 1}])
def test_clusters_are_whole_numbers(tmp_path: Path, clusters: object) -> None:
    scores = with_samples().to_json()
    for task in scores["samples"].values():
        if isinstance(clusters, list):
            task["clusters"][0] = clusters[0]
        else:
            task["clusters"] = clusters
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(scores))
    with raises(ScoresError, "invalid-scores", path):
        read_scores(path)


def test_scores_that_are_nested_deeply(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text('{"runs": ' + "[" * 100_000)
    with raises(ScoresError, "invalid-scores", path):
        read_scores(path)
