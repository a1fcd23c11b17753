from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pytest

from cotbal.data.reading.formats import json_items, read_rows
from cotbal.data.reading.record import Problem
from helpers.record_rows import llava, write


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_rows_are_numbered_from_one(tmp_path: Path, suffix: str) -> None:
    rows = [llava(str(place)) for place in range(150)]
    path = write(tmp_path / f"a.{suffix}", rows)
    assert list(read_rows(path)) == list(enumerate(rows, 1))


def test_lines_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": 2}\nnot json\n\xff\n{"a": 3}')
    found = list(read_rows(path))
    problems = [row for row in found if isinstance(row, Problem)]
    assert [row for row in found if not isinstance(row, Problem)] == [
        (1, {"a": 1}),
        (3, {"a": 2}),
        (6, {"a": 3}),
    ]
    assert [(problem.number, problem.code) for problem in problems] == [
        (4, "broken-file"),
        (5, "broken-file"),
    ]


def test_json_array_that_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"a": 1}, {"a": 2}])[:-6])
    first, problem = read_rows(path)
    assert first == (1, {"a": 1})
    assert isinstance(problem, Problem)
    assert (problem.number, problem.code) == (2, "broken-file")


def test_json_array_with_a_mark_and_floats(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf [{"a": 1.5}]')
    assert list(read_rows(path)) == [(1, {"a": 1.5})]


@pytest.mark.parametrize(
    ("name", "content", "code", "named"),
    [
        ("a.json", b'{\n "data": []\n}', "unknown-format", "JSON object"),
        ("a.json", b"", "unknown-format", "empty file"),
        ("a.json", b"id,image\n", "unknown-format", "id,image"),
        ("a.jsonl", b"\x1f\x8b\x08\x00", "unknown-format", "gzip"),
        ("a.json", b"PAR1\x15", "unknown-format", "parquet"),
        ("a.csv", b"a,b", "unknown-format", ".jsonl, .json, .parquet, .arrow"),
        ("a.parquet", b"no parquet", "broken-file", "parquet"),
    ],
)
def test_problem_of_a_whole_file(
    tmp_path: Path, name: str, content: bytes, code: str, named: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    (problem,) = read_rows(path)
    assert isinstance(problem, Problem)
    assert (problem.number, problem.code) == (0, code)
    assert named in problem.message


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
@pytest.mark.parametrize("lines", [True, False])
def test_json_is_recognised_by_its_content(
    tmp_path: Path, name: str, encoding: str, lines: bool
) -> None:
    rows = [llava(str(place), answer="Straße \u2028 ✓ 😀") for place in range(300)]
    text = json.dumps(rows, ensure_ascii=False, indent=1)
    if lines:
        text = "".join(f"{json.dumps(row, ensure_ascii=False)}\r\n" for row in rows)
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    assert list(read_rows(path)) == list(enumerate(rows, 1))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_wide_text_that_breaks_off_is_a_problem_of_its_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes('{"a": 1}\n{"a": 2}'.encode("utf-16")[:-1])
    *rows, problem = read_rows(path)
    assert rows == [(1, {"a": 1})]
    assert isinstance(problem, Problem)
    assert (problem.number, problem.code) == (2, "broken-file")


def test_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"a": "Straße"}'.encode("latin-1"))
    (problem,) = read_rows(path)
    assert isinstance(problem, Problem)
    assert (problem.number, problem.code) == (1, "broken-file")
    assert "UTF-8" in problem.message


def test_missing_file(tmp_path: Path) -> None:
    (problem,) = read_rows(tmp_path / "a.jsonl")
    assert isinstance(problem, Problem)
    assert (problem.number, problem.code) == (0, "missing-file")


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_a_reader_says_how_far_it_is(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", [llava(str(place)) for place in range(1100)])
    calls: list[tuple[int, int]] = []
    list(read_rows(path, lambda done, total: calls.append((done, total))))
    assert len(calls) > 2
    assert calls == sorted(calls)
    assert {total for _, total in calls} == {1100 if suffix == "parquet" else path.stat().st_size}


def test_an_arrow_stream_that_breaks_off(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([llava(str(place)) for place in range(150)])
    path = tmp_path / "a.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    assert [row[0] for row in read_rows(path) if not isinstance(row, Problem)] == list(
        range(1, 151)
    )
    path.write_bytes(path.read_bytes()[:-2000])
    *rows, problem = read_rows(path)
    assert len(rows) == 100
    assert isinstance(problem, Problem)
    assert (problem.number, problem.code) == (101, "broken-file")


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_integers_of_any_size(tmp_path: Path, suffix: str) -> None:
    rows = [{"id": i, "share": 0.5} for i in (1, 2**63 - 1, 2**64 + 1, -(2**70), 5)]
    found = list(read_rows(write(tmp_path / f"a.{suffix}", rows)))
    assert found == list(enumerate(rows, 1))
    assert {type(row["share"]) for _, row in found} == {float}


def test_large_integers_of_wide_text() -> None:
    rows = [{"id": 1, "share": 0.5}, {"id": 2**64}]
    stream = io.BytesIO(json.dumps(rows).encode("utf-16"))
    assert list(json_items(io.TextIOWrapper(stream, "utf-16"))) == rows


def test_broken_json_behind_a_large_integer(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'[{{"id": 1}}, {{"id": {2**64}}}, {{"id": }}]')
    *found, problem = read_rows(path)
    assert found == [(1, {"id": 1}), (2, {"id": 2**64})]
    assert isinstance(problem, Problem)
    assert (problem.number, problem.code) == (3, "broken-file")
