"""Streaming readers: a file of records becomes pairs of number and raw row, or errors; one row in
memory at a time.
"""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import ijson
import pyarrow as pa
import pyarrow.parquet as pq

from cotbal.data.reading.record import Problem

# Embedded images make rows heavy; 64 of them stay below some hundred megabytes.
_PARQUET_ROWS = 64
_STEP = 500  # rows between two words of progress
BROKEN = (
    pa.ArrowException,
    OSError,
    UnicodeDecodeError,
)  # what pyarrow raises on files that are not whole
_MARK = b"\xef\xbb\xbf"  # byte order mark that some editors put before UTF-8
_HEAD = 4096  # bytes by which the layout of a file is recognised
_OTHERS = {  # how files of other formats begin
    b"PAR1": "a parquet file",
    b"ARROW1": "an Arrow file",
    b"\x1f\x8b": "gzip data",
    b"PK\x03\x04": "a zip archive",
}

Row = tuple[int, Any]
Report = Callable[[int, int], None]  # how much of how much has been read: bytes, or rows of parquet


def read_rows(path: Path, report: Report | None = None) -> Iterator[Row | Problem]:
    """The numbered rows of a `.jsonl`, `.json`, `.parquet` or `.arrow` file, and its errors.

    Both endings of JSON may hold an array or one record per line, in UTF-8, UTF-16 or UTF-32.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        yield Problem(
            path,
            0,
            f"expected a file that ends in {', '.join(_READERS)}; found"
            f" {path.suffix or 'no ending'}",
        )
    elif not path.is_file():
        yield Problem(path, 0, "expected a file of records; found no such file")
    else:
        yield from reader(path, report or _be_silent)


def _be_silent(_done: int, _total: int) -> None:
    pass


class _Recoded(io.RawIOBase):
    """The text of a file in UTF-8, from another encoding; the file may begin with its mark."""

    def __init__(self, raw: BinaryIO, encoding: str) -> None:
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = b"more"
        while block and not self._rest:
            block = self._raw.read(_HEAD)
            self._rest = self._decoder.decode(block, final=not block).encode()
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _read_text(path: Path, report: Report) -> Iterator[Row | Problem]:
    """JSON by its content, whatever the ending: an array of records, or one record per line."""
    size = path.stat().st_size
    with path.open("rb") as raw:
        head = raw.read(_HEAD)
        encoding = json.detect_encoding(head)
        text = head.decode(encoding, "ignore").lstrip("\ufeff \t\r\n")
        raw.seek(len(_MARK) if head.startswith(_MARK) else 0)
        wide = encoding.startswith(("utf-16", "utf-32"))
        file = io.BufferedReader(_Recoded(raw, encoding)) if wide else raw
        problem = _problem_of_layout(head, text, path.suffix.lower())
        if problem:
            yield Problem(path, 0, problem)
        elif text.startswith("["):
            yield from _read_array(path, file, lambda: report(raw.tell(), size))
        else:
            yield from _read_lines(path, file, lambda: report(raw.tell(), size))


def _problem_of_layout(head: bytes, text: str, suffix: str) -> str | None:
    """What a file is that begins so, if it is neither an array nor one record per line."""
    other = next((kind for mark, kind in _OTHERS.items() if head.startswith(mark)), None)
    if other:
        return f"expected JSON in a file that ends in {suffix}; found {other}"
    if suffix == ".jsonl" or text.startswith("["):
        return None
    wanted = "expected one JSON array of records, or one record per line"
    if not text.startswith("{"):
        return f"{wanted}; found {ascii(text[:20]) if text else 'an empty file'}"
    line, broken, _ = text.partition("\n")
    if broken and not _is_json(line):
        return f"{wanted}; found one JSON object: write the list that it holds as the whole file"
    return None


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _read_lines(path: Path, file: BinaryIO, report: Callable[[], None]) -> Iterator[Row | Problem]:
    number = 0
    try:
        for number, line in enumerate(file, 1):
            if number % _STEP == 1:
                report()
            if line.strip():
                yield _parsed(path, number, line)
    except UnicodeError as error:
        yield Problem(path, number + 1, f"broken text from this line on ({error})")


def _parsed(path: Path, number: int, line: bytes) -> Row | Problem:
    try:
        return number, json.loads(line.decode())
    except UnicodeDecodeError as error:
        message = f"expected text in UTF-8; found another encoding, or broken bytes ({error})"
    except (ValueError, RecursionError) as error:
        message = f"expected one JSON object per line; found broken JSON ({error})"
    return Problem(path, number, message)


def _read_array(path: Path, file: BinaryIO, report: Callable[[], None]) -> Iterator[Row | Problem]:
    number = 0
    try:
        for number, row in enumerate(json_items(file), 1):
            if number % _STEP == 1:
                report()
            yield number, row
    except (ijson.JSONError, ValueError, RecursionError) as error:
        message = " ".join(str(error).split())
        yield Problem(
            path,
            number + 1,
            f"broken JSON from this record on; the rest cannot be read ({message})",
        )


def open_parquet(path: Path) -> pq.ParquetFile:
    """A parquet file that is read piece by piece; by default pyarrow fetches whole row groups
    ahead.

    Measured on 5,000 images of 100 kB in base64, 1,000 a row group: the peak is 0.42 GB instead
    of 1.03 GB.
    """
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20)


def _read_parquet(path: Path, report: Report) -> Iterator[Row | Problem]:
    number = 0
    try:
        with open_parquet(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                report(number, file.metadata.num_rows)
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except BROKEN as error:
        message = " ".join(str(error).split())
        yield Problem(
            path,
            number + 1 if number else 0,
            f"expected a parquet file; found broken data ({message})",
        )


def _read_arrow(path: Path, report: Report) -> Iterator[Row | Problem]:
    """A file that `datasets` saved: Arrow's stream format."""
    number = 0
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as batches:
            for batch in batches:
                report(source.tell(), source.size())
                for start in range(0, batch.num_rows, _PARQUET_ROWS):
                    for row in batch.slice(start, _PARQUET_ROWS).to_pylist():
                        number += 1
                        yield number, row
    except BROKEN as error:
        message = " ".join(str(error).split())
        yield Problem(
            path,
            number + 1 if number else 0,
            f"expected an Arrow stream; found broken data ({message})",
        )


_READERS: dict[str, Callable[[Path, Report], Iterator[Row | Problem]]] = {
    ".jsonl": _read_text,
    ".json": _read_text,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}


def json_items(file: BinaryIO) -> Iterator[Any]:
    """The elements of the array that begins where `file` is.

    Numbers are read as 64 bits, more than twice as fast as exact ones, up to the first integer that
    does not fit. A file that cannot seek is read with exact ones.

    Raises:
        ijson.JSONError: broken JSON.
    """
    done = 0
    if file.seekable():
        start = file.tell()
        try:
            for row in ijson.items(file, "item", use_float=True):
                done += 1
                yield row
            return
        except ijson.JSONError as error:
            if "integer overflow" not in str(error):
                raise
        file.seek(start)
    for row in islice(ijson.items(file, "item"), done, None):
        yield _with_floats(row)


def _with_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_floats(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_floats(inner) for inner in value]
    return float(value) if isinstance(value, Decimal) else value
