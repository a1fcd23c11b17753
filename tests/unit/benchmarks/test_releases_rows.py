"""Raw files: what is not known is refused with file, number and what was found."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from cotbal.benchmarks.releases.rows import (
    json_list,
    json_mapping,
    known,
    parquet_rows,
    pickled_list,
)
from cotbal.data.reading.formats import read_rows
from cotbal.data.reading.record import Problem
from cotbal.errors import DataError
from helpers.errors import raises
from helpers.raw_releases import as_json, as_parquet


def silent(what: str, done: int, total: int) -> None:
    pass


def test_a_list_inside_a_mapping_is_read_in_order_and_numbered(tmp_path: Path) -> None:
    path = as_json(
        tmp_path / "a.json", {"info": {"year": 2017}, "questions": [{"a": 1}, {"a": 2.5}]}
    )
    rows = list(json_list(path, "questions.item", silent))
    assert rows == [(f"{path}, record 1", {"a": 1}), (f"{path}, record 2", {"a": 2.5})]


def test_a_mapping_is_read_in_order_even_behind_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"x": {"a": 1}, "y": {"a": 2}}')
    assert list(json_mapping(path, silent)) == [("x", {"a": 1}), ("y", {"a": 2})]


def test_progress_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    path = as_json(tmp_path / "a.json", list(range(5000)))
    reports: list[tuple[str, int, int]] = []
    assert len(list(json_list(path, "item", lambda *word: reports.append(word)))) == 5000
    size = path.stat().st_size
    assert reports[-1] == ("a.json", size, size)
    assert [done for _, done, _ in reports] == sorted(done for _, done, _ in reports)
    assert len(reports) == 4


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("[1, 2", "broken-file"),
        ("[1, }", "broken-file"),
        ('{"a": [1, 2]}', "no-records"),
        ("[]", "no-records"),
        ("", "broken-file"),
        ("3", "no-records"),
    ],
)
def test_a_broken_or_other_file_is_rejected(tmp_path: Path, content: str, code: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with raises(DataError, code, path):
        list(json_list(path, "item", silent))


def test_an_unknown_key_is_rejected_and_named() -> None:
    with raises(DataError, "unknown-key", "here", "--ignore-keys mask"):
        known({"a": 1, "mask": 2}, "here", ("a",), ("b",))
    assert known({"a": 1, "mask": 2}, "here", ("a",), ("b", "mask")).number("a") == 1


def test_a_missing_key_is_named() -> None:
    with raises(DataError, "missing-key", "here", "a, b"):
        known({"a": 1}, "here", ("a", "b"))


def test_a_row_that_is_no_mapping_is_rejected() -> None:
    with raises(DataError, "wrong-type", "here", "[1]"):
        known([1], "here", ("a",))


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("text", 5, "int 5"),
        ("text", None, "nothing"),
        ("number", "5", "str '5'"),
        ("number", True, "bool True"),
        ("texts", ["a", 1], "list"),
        ("image", "a.jpg", "str 'a.jpg'"),
    ],
)
def test_a_value_of_another_kind_is_rejected(kind: str, value: Any, shown: str) -> None:
    row = known({"k": value}, "file, record 3", ("k",))
    with raises(DataError, "wrong-type", "file, record 3: k:", shown):
        getattr(row, kind)("k")


def test_half_a_character_becomes_one_that_can_be_written() -> None:
    row = known({"a": "Hi \ud83d", "b": ["\udc00!", "ä"]}, "here", ("a", "b"))
    assert row.text("a") == "Hi ?"
    assert row.texts("b") == ["?!", "ä"]


def test_errors_name_nested_rows() -> None:
    row = known({"turns": [{"from": "x"}, {"form": "y"}]}, "file, record 3", ("turns",))
    with raises(DataError, "missing-key", "file, record 3, turns[1]"):
        row.rows("turns", ("from",))


def test_a_parquet_file_is_checked_by_its_columns_and_only_the_required_are_read(
    tmp_path: Path,
) -> None:
    path = as_parquet(
        tmp_path / "a.parquet", [{"id": k, "image": {"bytes": b"x"}} for k in range(200)]
    )
    rows = list(parquet_rows([path, path], ["id"], ["image"], silent))
    assert [row.number("id") for row in rows] == [*range(200), *range(200)]
    assert rows[0].fields == {"id": 0}
    assert rows[-1].where == f"{path}, row 200"
    with raises(DataError, "unknown-key", "a.parquet", "'image'"):
        list(parquet_rows([path], ["id"], [], silent))
    with raises(DataError, "missing-key", "a.parquet", "question"):
        list(parquet_rows([path], ["id", "question"], ["image"], silent))


def test_half_a_parquet_file_is_rejected(tmp_path: Path) -> None:
    path = as_parquet(tmp_path / "a.parquet", [{"id": 1}])
    path.write_bytes(path.read_bytes()[:-20])
    with raises(DataError, "broken-file", "a.parquet"):
        list(parquet_rows([path], ["id"], [], silent))


def test_a_parquet_file_with_a_broken_name_of_a_column_is_rejected(tmp_path: Path) -> None:
    path = as_parquet(tmp_path / "a.parquet", [{"question": "q"}])
    path.write_bytes(path.read_bytes().replace(b"question", b"qu\xe9stion"))
    with raises(DataError, "broken-file", "a.parquet"):
        list(parquet_rows([path], ["question"], [], silent))
    (problem,) = read_rows(path)
    assert isinstance(problem, Problem)
    assert "expected a parquet file; found broken data" in problem.message


class Malicious:
    """Its pickle runs a command when it is loaded by the plain loader."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_malicious_pickle_is_rejected_before_it_runs(tmp_path: Path, protocol: int) -> None:
    path, mark = tmp_path / "refs.p", tmp_path / "was_run"
    path.write_bytes(pickle.dumps([{"ref_id": 1}, Malicious(mark)], protocol=protocol))
    with raises(DataError, "broken-file", "refs.p", "mkdir"):
        list(pickled_list(path))
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists(), "the pickle of this test does run something"


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    """Byte strings with letters beyond ASCII, as Python 2 wrote them."""
    path = tmp_path / "refs.p"
    path.write_bytes(b"(lp0\n(dp1\nS'sent'\np2\nS'caf\\xe9'\np3\nsa.")
    assert list(pickled_list(path)) == [(f"{path}, record 1", {"sent": "café"})]


@pytest.mark.parametrize("content", [b"", b"(lp0", pickle.dumps({"a": 1}), pickle.dumps([])])
def test_a_broken_or_other_pickle_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(content)
    with raises(DataError, "broken-file", "refs.p"):
        list(pickled_list(path))
