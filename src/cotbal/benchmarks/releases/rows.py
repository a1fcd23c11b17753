"""Raw files of a release, one row in memory at a time, and rows whose keys are all known.

Measured on 943,000 questions in the layout of GQA (640 MB of JSON), 2-core machine: `json.load`
peaks at 3.8 GB and takes 73 s, `ijson` with the grouping of all questions peaks at 0.19 GB and
takes 23 s.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import ijson

from cotbal.data.checks.census import Progress
from cotbal.data.reading.formats import BROKEN, open_parquet
from cotbal.errors import DataError

_STEP = 2000  # rows between two reports of progress
_PARQUET_ROWS = 64  # embedded images make rows heavy
LONGEST_SIDE = 1_000_000  # pixels; a longer side is no image's
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a release: its fields by key, each of the kind that the reader expects.

    Attributes:
        fields: what the row holds.
        where: file and number, for messages.
        ignored: unknown keys that are harmless, as the user states; in nested rows too.
    """

    fields: dict[str, Any]
    where: str
    ignored: Collection[str] = ()

    def text(self, key: str) -> str:
        """The text at `key`. Raises DataError for anything else."""
        value = self.fields.get(key)
        if not isinstance(value, str):
            self._reject(key, "text", value)
        return writable(value)

    def number(self, key: str) -> int:
        """The whole number at `key`. Raises DataError for anything else."""
        value = self.fields.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            self._reject(key, "a whole number", value)
        return value

    def texts(self, key: str) -> list[str]:
        """The list of texts at `key`. Raises DataError for anything else."""
        value = self.fields.get(key)
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            self._reject(key, "a list of texts", value)
        return list(map(writable, value))

    def rows(self, key: str, required: Collection[str], others: Collection[str] = ()) -> list[Row]:
        """The list of mappings at `key`, their own keys checked. Raises DataError for anything
        else.
        """
        value = self.fields.get(key)
        if not isinstance(value, list):
            self._reject(key, "a list", value)
        return [
            known(element, f"{self.where}, {key}[{i}]", required, others, self.ignored)
            for i, element in enumerate(value)
        ]

    def image(self, key: str) -> bytes:
        """The bytes of the embedded image at `key`. Raises DataError for anything else."""
        value = self.fields.get(key)
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            self._reject(key, "an embedded image", value)
        return content

    def box(self, key: str) -> tuple[float, float, float, float]:
        """The four coordinates at `key`. Raises DataError for anything else."""
        value = self.fields.get(key)
        if not isinstance(value, list) or len(value) != 4 or not all(map(_is_coordinate, value)):
            message = f"{key}: expected four numbers; found {ascii(value)[:60]}"
            raise self.error(message, "invalid-box")
        return value[0], value[1], value[2], value[3]

    def error(self, message: str, code: str) -> DataError:
        """An error that names this row."""
        return DataError(f"{self.where}: {message}", code)

    def _reject(self, key: str, wanted: str, value: Any) -> NoReturn:
        shown = "nothing" if value is None else f"{type(value).__name__} {ascii(value)[:60]}"
        raise self.error(f"{key}: expected {wanted}; found {shown}", "wrong-type")


def _is_coordinate(value: Any) -> bool:
    """Whether an image may have the coordinate; what is not finite fails, too."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < LONGEST_SIDE


def writable(text: str) -> str:
    """The text, with `?` for half a surrogate pair, which JSON accepts and UTF-8 does not."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def mapping(raw: Any, where: str) -> Row:
    """The row in `raw`, whatever its keys. Raises DataError for no mapping."""
    if not isinstance(raw, dict):
        raise DataError(
            f"{where}: expected a mapping; found {type(raw).__name__} {ascii(raw)[:60]}",
            "wrong-type",
        )
    return Row(raw, where)


def known(
    raw: Any,
    where: str,
    required: Collection[str],
    others: Collection[str] = (),
    ignored: Collection[str] = (),
) -> Row:
    """The row in `raw`, if every required key is there and every key is known.

    An unknown key may change what the others mean, so it is an error.

    Args:
        required: keys that are read.
        others: keys that are known and not needed.
        ignored: unknown keys that are harmless, as the user states.

    Raises:
        DataError: no mapping, a key is missing, or a key is unknown.
    """
    mapping(raw, where)
    missing = [key for key in required if key not in raw]
    if missing:
        raise DataError(
            f"{where}: expected the keys {', '.join(required)}; {', '.join(missing)} not found",
            "missing-key",
        )
    allowed = {*required, *others, *ignored}
    strange = [key for key in raw if key not in allowed]
    if strange:
        raise DataError(
            f"{where}: unknown key {strange[0]!r}, so the data are of another version than cotbal"
            " reads; if the key does not change the meaning of the others, add --ignore-keys"
            f" {strange[0]}",
            "unknown-key",
        )
    return Row(raw, where, ignored)


def json_list(path: Path, prefix: str, progress: Progress) -> Iterator[tuple[str, Any]]:
    """Location and value of every element of the list at `prefix` (`item` for a file that is one
    list).

    Raises:
        DataError: broken JSON, or no such list.
    """
    wanted = (
        f"a JSON list in `{prefix.removesuffix('.item')}`" if "." in prefix else "one JSON list"
    )
    with path.open("rb") as file:
        rows = enumerate(ijson.items(_without_mark(file), prefix, use_float=True), 1)
        numbered = ((f"{path}, record {number}", value) for number, value in rows)
        yield from _guarded(path, file, numbered, progress, wanted)


def json_lines(path: Path, progress: Progress) -> Iterator[tuple[str, Any]]:
    """Location and value of every line that is not empty.

    Raises:
        DataError: broken JSON, or a file without any.
    """
    number, size = 0, path.stat().st_size
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number % _STEP == 1:
                progress(path.name, file.tell(), size)
            if not line.strip():
                continue
            try:
                yield f"{path}, line {number}", json.loads(line.removeprefix(_MARK))
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{path}, line {number}: broken JSON; is the file only half downloaded?"
                    f" ({error})",
                    "broken-file",
                ) from None
    if not number:
        raise DataError(
            f"{path}: expected one JSON value per line; found an empty file", "no-records"
        )
    progress(path.name, size, size)


def json_mapping(path: Path, progress: Progress) -> Iterator[tuple[str, Any]]:
    """Key and value of every entry of a file that is one mapping. Raises as json_list."""
    with path.open("rb") as file:
        entries = ijson.kvitems(_without_mark(file), "", use_float=True)
        yield from _guarded(path, file, entries, progress, "one JSON mapping")


def _without_mark(file: BinaryIO) -> BinaryIO:
    file.seek(len(_MARK) if file.read(len(_MARK)) == _MARK else 0)
    return file


def _guarded(
    path: Path, file: BinaryIO, pairs: Iterator[tuple[str, Any]], progress: Progress, wanted: str
) -> Iterator[tuple[str, Any]]:
    number, size = 0, path.stat().st_size
    try:
        for number, pair in enumerate(pairs, 1):
            if number % _STEP == 1:
                progress(path.name, file.tell(), size)
            yield pair
    except (ijson.JSONError, RecursionError, UnicodeDecodeError) as error:
        message = " ".join(str(error).split())
        raise DataError(
            f"{path}: broken JSON behind record {number}; is the file only half downloaded?"
            f" ({message})",
            "broken-file",
        ) from None
    if not number:
        raise DataError(
            f"{path}: expected {wanted} with records; found none, so this is another file or"
            " version",
            "no-records",
        )
    progress(path.name, size, size)


def parquet_rows(
    paths: Sequence[Path],
    required: Sequence[str],
    others: Collection[str],
    progress: Progress,
    ignored: Collection[str] = (),
) -> Iterator[Row]:
    """Every row of the files, only the required columns; other columns must be known.

    Raises:
        DataError: no parquet file, a column is missing, or a column is unknown.
    """
    for path in paths:
        with _parquet(path) as file:
            columns = dict.fromkeys(file.schema_arrow.names)
            known(columns, f"{path}, columns", required, others, ignored)
            total, number = file.metadata.num_rows, 0
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=list(required)):
                progress(path.name, number, total)
                batch.validate(full=True)  # a broken offset would end the process
                for raw in batch.to_pylist():
                    number += 1
                    yield Row(raw, f"{path}, row {number}", ignored)
            progress(path.name, total, total)


def parquet_columns(path: Path) -> list[str]:
    """Names of the columns of a file. Raises DataError for no parquet file."""
    with _parquet(path) as file:
        return list(file.schema_arrow.names)


def parquet_count(path: Path) -> int:
    """Number of rows of a file. Raises DataError for no parquet file."""
    with _parquet(path) as file:
        return int(file.metadata.num_rows)


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    try:
        with open_parquet(path) as file:
            yield file
    except BROKEN as error:
        message = " ".join(str(error).split())
        raise DataError(
            f"{path}: expected a parquet file; is it only half downloaded? ({message})",
            "broken-file",
        ) from None


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts, lists and mappings; whatever names code is rejected before it can
    run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def pickled_list(path: Path) -> Iterator[tuple[str, Any]]:
    """Location and value of every element of a pickled list of plain values, as Python 2 wrote it.

    Raises:
        DataError: it holds anything but plain values (it could run code), is broken, or is no list.
    """
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a broken pickle raises errors of many kinds
        raise DataError(
            f"{path}: expected a pickle of plain lists and texts; rejected: {error}", "broken-file"
        ) from None
    if not isinstance(content, list) or not content:
        raise DataError(
            f"{path}: expected a pickled list; found {type(content).__name__}", "broken-file"
        )
    for number, value in enumerate(content, 1):
        yield f"{path}, record {number}", value
