from __future__ import annotations

import io
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cotbal.data.reading import json_array
from cotbal.data.reading.formats import read_rows
from cotbal.data.reading.json_array import json_items
from cotbal.data.reading.record import Problem
from helpers.record_rows import llava, write


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_rows_are_numbered_from_one(tmp_path: Path, suffix: str) -> None:
    rows = [llava(str(number)) for number in range(150)]
    path = write(tmp_path / f"a.{suffix}", rows)
    assert list(read_rows(path)) == list(enumerate(rows, 1))


def test_lines_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": 2}\nnot json\n\xff\n{"a": 3}')
    rows = list(read_rows(path))
    problems = [row for row in rows if isinstance(row, Problem)]
    assert [row for row in rows if not isinstance(row, Problem)] == [
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
    rows = [llava(str(number), answer="Straße \u2028 ✓ 😀") for number in range(300)]
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
    path = write(tmp_path / f"a.{suffix}", [llava(str(number)) for number in range(1100)])
    calls: list[tuple[int, int]] = []
    list(read_rows(path, lambda done, total: calls.append((done, total))))
    assert len(calls) > 2
    assert calls == sorted(calls)
    assert {total for _, total in calls} == {1100 if suffix == "parquet" else path.stat().st_size}


def test_an_arrow_stream_that_breaks_off(tmp_path: Path) -> None:
    path = saved_stream(tmp_path / "a.arrow", 150)
    assert [row[0] for row in read_rows(path) if not isinstance(row, Problem)] == list(
        range(1, 151)
    )
    path.write_bytes(path.read_bytes()[:-2000])
    *rows, problem = read_rows(path)
    assert len(rows) == 100
    assert isinstance(problem, Problem)
    assert (problem.number, problem.code) == (101, "broken-file")


def saved_stream(path: Path, rows: int, chunk: int = 100) -> Path:
    table = pa.Table.from_pylist([llava(str(number)) for number in range(rows)])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return path


def test_an_arrow_stream_needs_its_end(tmp_path: Path) -> None:
    """Cut between two batches, a stream looks whole to pyarrow."""
    path = saved_stream(tmp_path / "a.arrow", 100)
    whole = path.read_bytes()
    for content in (whole[:-8], whole[:-4], whole + bytes(8), whole + whole):
        path.write_bytes(content)
        *rows, problem = read_rows(path)
        assert len(rows) == 100
        assert isinstance(problem, Problem)
        assert (problem.number, problem.code) == (101, "broken-file")


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_damaged_columns_do_not_end_the_process(tmp_path: Path, suffix: str) -> None:
    """Most damages of offsets, lengths and metadata ended it, with SIGSEGV or SIGBUS."""
    path = tmp_path / f"a.{suffix}"
    whole = (
        write(path, [llava(str(row)) for row in range(200)])
        if suffix == "parquet"
        else (saved_stream(path, 200))
    )
    content = whole.read_bytes()
    rng = np.random.default_rng(3)
    code = (
        "import sys; from pathlib import Path; from cotbal.data.reading.formats import read_rows\n"
        "for path in sys.argv[1:]:\n print(sum(1 for _ in read_rows(Path(path))))"
    )
    files = []
    for number in range(60):
        damaged = bytearray(content)
        start = int(rng.integers(len(content)))
        damage = (bytes(64), b"\xff" * 8, rng.bytes(16))[number % 3]
        damaged[start : start + len(damage)] = damage
        files.append(tmp_path / f"{number}.{suffix}")
        files[-1].write_bytes(damaged)
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert len(done.stdout.split()) == 60


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("depth", [101, 900, 60_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}")])
def test_json_that_is_nested_deeply(
    tmp_path: Path, suffix: str, depth: int, opening: str, closing: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    value = f"{opening * depth}0{closing * depth}"
    path.write_text(f'[{{"a": 1}}, {value}]' if suffix == "json" else f'{{"a": 1}}\n{value}')
    tracemalloc.start()
    first, problem = read_rows(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert first == (1, {"a": 1})
    assert isinstance(problem, Problem)
    assert (problem.number, problem.code) == (2, "broken-file")
    assert peak < 20_000_000


def test_json_of_100_levels_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f"[{'[' * 100}0{']' * 100}]")
    assert len(list(read_rows(path))) == 1


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    ),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.integers(1, 40),
)
@example([0.0, 1.5e300, -2e-300], None, False, 1)
def test_arrays_are_read_in_pieces(
    rows: list[Any], indent: int | None, ascii: bool, chunk: int
) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "_CHUNK", chunk)
        assert list(json_items(io.StringIO(text))) == rows
        for cut in range(0, len(text), max(1, len(text) // 20)):
            with pytest.raises(ValueError, match=r"expected|ends inside"):
                list(json_items(io.StringIO(text[:cut])))


@pytest.mark.parametrize("text", ["[1] 2", "[1,]", "[,1]", "[1 2]", "[tru]", '["\\x"]', "[1]]"])
def test_what_is_no_json_array(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|Expecting|found|Invalid|ends"):
        list(json_items(io.StringIO(text)))


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_integers_of_any_size(tmp_path: Path, suffix: str) -> None:
    rows = [{"id": i, "share": 0.5} for i in (1, 2**63 - 1, 2**64 + 1, -(2**70), 5)]
    read = list(read_rows(write(tmp_path / f"a.{suffix}", rows)))
    assert read == list(enumerate(rows, 1))
    assert {type(row["share"]) for _, row in read} == {float}


def test_large_integers_of_wide_text() -> None:
    rows = [{"id": 1, "share": 0.5}, {"id": 2**64}]
    stream = io.BytesIO(json.dumps(rows).encode("utf-16"))
    assert list(json_items(io.TextIOWrapper(stream, "utf-16"))) == rows


def test_broken_json_behind_a_large_integer(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'[{{"id": 1}}, {{"id": {2**64}}}, {{"id": }}]')
    *rows, problem = read_rows(path)
    assert rows == [(1, {"id": 1}), (2, {"id": 2**64})]
    assert isinstance(problem, Problem)
    assert (problem.number, problem.code) == (3, "broken-file")
