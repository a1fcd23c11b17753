"""Streaming readers: a file of records becomes pairs of number and raw row, or errors; one row in
memory at a time.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cotbal.data.reading.json_array import DEEPEST, is_too_deep, json_items
from cotbal.data.reading.record import Problem

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_PARQUET_ROWS = 64  # embedded images make rows heavy; so many stay below some hundred megabytes
_STEP = 500  # rows between two reports of progress
# what pyarrow raises on files that are not whole
BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError)
# and on damaged values, which Python may not be able to hold
DAMAGED = (*BROKEN, ValueError, OverflowError, TypeError, LookupError)
_STREAM_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
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


def read_rows(path: Path, report: Report = lambda _done, _total: None) -> Iterator[Row | Problem]:
    """The numbered rows of a `.jsonl`, `.json`, `.parquet` or `.arrow` file, and its errors.

    Both endings of JSON may hold an array or one record per line, in UTF-8, UTF-16 or UTF-32.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        wanted = f"expected a file that ends in {', '.join(_READERS)}"
        yield Problem(path, 0, f"{wanted}; found {path.suffix or 'no ending'}", "unknown-format")
    elif not path.is_file():
        yield Problem(path, 0, "expected a file of records; found no such file", "missing-file")
    else:
        yield from reader(path, report)


def _read_text(path: Path, report: Report) -> Iterator[Row | Problem]:
    """JSON by its content, whatever the ending: an array of records, or one record per line."""
    size = path.stat().st_size
    with path.open("rb") as raw:
        head = raw.read(_HEAD)
        encoding = json.detect_encoding(head)
        text = head.decode(encoding, "ignore").lstrip("\ufeff \t\r\n")
        raw.seek(len(_MARK) if head.startswith(_MARK) else 0)
        is_wide = encoding.startswith(("utf-16", "utf-32"))
        decoded = io.TextIOWrapper(raw, encoding if is_wide else "utf-8", newline="\n")
        problem = _problem_of_layout(head, text, path.suffix.lower())
        if problem:
            yield Problem(path, 0, problem, "unknown-format")
        elif text.startswith("["):
            yield from _read_array(path, decoded, lambda: report(raw.tell(), size))
        else:
            lines: Iterable[bytes | str] = decoded if is_wide else raw
            yield from _read_lines(path, lines, lambda: report(raw.tell(), size))


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


def _read_lines(
    path: Path, lines: Iterable[bytes | str], report: Callable[[], None]
) -> Iterator[Row | Problem]:
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if number % _STEP == 1:
                report()
            if line.strip():
                yield _parsed(path, number, line)
    except UnicodeError as error:
        message = f"broken text from this line on ({error})"
        yield Problem(path, number + 1, message, "broken-file")


def _parsed(path: Path, number: int, line: bytes | str) -> Row | Problem:
    try:
        text = line if isinstance(line, str) else line.decode()
        row = json.loads(text)
        if not is_too_deep(text, 0, len(text), row):
            return number, row
        message = f"expected at most {DEEPEST} levels of nesting; found more"
    except UnicodeDecodeError as error:
        message = f"expected text in UTF-8; found another encoding, or broken bytes ({error})"
    except (ValueError, RecursionError) as error:
        message = f"expected one JSON object per line; found broken JSON ({error})"
    return Problem(path, number, message, "broken-file")


def _read_array(
    path: Path, file: io.TextIOWrapper, report: Callable[[], None]
) -> Iterator[Row | Problem]:
    number = 0
    try:
        for number, row in enumerate(json_items(file), 1):
            if number % _STEP == 1:
                report()
            yield number, row
    except (ValueError, RecursionError) as error:
        message = f"broken JSON from this record on; the rest cannot be read ({_one_line(error)})"
        yield Problem(path, number + 1, message, "broken-file")


def open_parquet(path: Path) -> ParquetFile:
    """A parquet file that is read piece by piece; by default pyarrow fetches whole row groups
    ahead.

    Measured on 5,000 images of 100 kB in base64, 1,000 a row group: the peak is 0.42 GB instead
    of 1.03 GB.
    """
    from pyarrow.parquet import ParquetFile  # most mixtures have no such file

    return ParquetFile(path, pre_buffer=False, buffer_size=2**20, page_checksum_verification=True)


def _read_arrow(path: Path, report: Report, *, parquet: bool) -> Iterator[Row | Problem]:
    """A parquet file, or one that `datasets` saved: Arrow's stream format."""
    number = 0
    try:
        for batch, done, total in (_parquet_batches if parquet else _stream_batches)(path):
            report(done, total)
            batch.validate(full=True)  # a broken offset would end the process
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except DAMAGED as error:
        wanted = "a parquet file" if parquet else "an Arrow stream"
        message = f"expected {wanted}; found broken data ({_one_line(error)})"
        yield Problem(path, number + 1 if number else 0, message, "broken-file")


def _parquet_batches(path: Path) -> Iterator[tuple[Any, int, int]]:
    """Some rows, and how many of how many are behind them."""
    done = 0
    with open_parquet(path) as file:
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
            yield batch, done, file.metadata.num_rows
            done += batch.num_rows
        if done != file.metadata.num_rows:
            raise pa.ArrowInvalid(f"{file.metadata.num_rows:,} rows announced; found {done:,}")


def _stream_batches(path: Path) -> Iterator[tuple[Any, int, int]]:
    """Some rows, and how many of how many bytes are behind them.

    The file is not mapped into memory: one that is cut while it is read would end the process.
    """
    with pa.OSFile(str(path)) as source:
        size = source.size()
        with pa.ipc.open_stream(source) as batches:
            for batch in batches:
                batch.validate(full=True)
                for start in range(0, batch.num_rows, _PARQUET_ROWS):
                    yield batch.slice(start, _PARQUET_ROWS), source.tell(), size
        if source.tell() != size:
            raise pa.ArrowInvalid(f"its end is at byte {source.tell():,} of {size:,}")
        source.seek(max(0, size - len(_STREAM_END)))
        if source.read() != _STREAM_END:
            raise pa.ArrowInvalid("the mark at its end is missing, so it was cut")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


_READERS: dict[str, Callable[[Path, Report], Iterator[Row | Problem]]] = {
    ".jsonl": _read_text,
    ".json": _read_text,
    ".parquet": partial(_read_arrow, parquet=True),
    ".arrow": partial(_read_arrow, parquet=False),
}
