"""Records of one file, memory-mapped: any number of them, in the memory of one.

The source is read once, checked, and written as an Arrow file whose name is the hash of the
source's bytes; the same bytes are never converted twice, and a changed source never meets an old
conversion. The file ends with a digest of its name and content and belongs to the user who reads
it, so that damage is noticed and nobody else can change what is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, compress, islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cotbal.data.files import image_cache, is_own, owner, remove_leftovers, temporary
from cotbal.data.reading.columns import to_arrow
from cotbal.data.reading.conversations import normalise
from cotbal.data.reading.formats import DAMAGED, read_rows
from cotbal.data.reading.image_files import opened
from cotbal.data.reading.record import Problem, Record, Role, Turn, first_lines
from cotbal.data.reading.sealed_files import Content, is_sealed, seal
from cotbal.data.reading.source import need_same_source, source_digest
from cotbal.data.reading.whole_files import problems_of_whole
from cotbal.errors import DataError

# Raise it with every change of the schema or of the rules of normalisation.
SCHEMA_VERSION = 5
_SCHEMA = pa.schema(
    {
        # null when the source states none: a made-up id holds the file's name, which is no content
        "id": pa.string(),
        "task": pa.string(),
        "images": pa.list_(pa.string()),
        # whether the first text is a system turn; the roles of the others follow
        "system": pa.bool_(),
        "texts": pa.list_(pa.string()),
        "silent": pa.list_(pa.int32()),  # indices of texts that are answers without loss, or null
        "references": pa.list_(pa.string()),  # null when the only one is the last text
        "number": pa.int64(),
        "details": pa.string(),  # JSON, null when there are none
        "unread": pa.list_(pa.string()),  # keys that nothing reads, or null
        "options": pa.list_(pa.string()),  # null when there are none
    }
)
_ROWS = 2048  # a batch
# An image from inside the source, in the cache wherever that is now: `embedded:<bytes>:<file>`.
_EMBEDDED = "embedded:"
_SHOWN = 20


class Records(Sequence[Record]):
    """The sound records of one file; indexing reads one from the memory-mapped file.

    Attributes:
        source: the file they came from.
        digest: SHA-256 of the bytes of that file.
        image_cache: directory of images that came from inside sources.
    """

    def __init__(self, source: Path, digest: str, arrow: Path, cache: Path) -> None:
        self._content = Content(arrow)
        table = pa.ipc.open_file(pa.BufferReader(self._content.buffer)).read_all()
        self.source = source
        self.digest = digest
        self._columns = {name: table.column(name) for name in _SCHEMA.names}
        self._length: int = table.num_rows
        self.image_cache = image_cache(cache)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        position = range(self._length)[index]
        if isinstance(position, range):
            return [self[i] for i in position]
        return self._record([column[position].as_py() for column in self._columns.values()])

    def __iter__(self) -> Iterator[Record]:
        for rows in self._batches([*self._columns.values()]):
            yield from map(self._record, rows)

    def ids(self, indices: np.ndarray | None = None) -> Iterator[str]:
        """The ids of all records, or of those at `indices`."""
        columns = [self._columns[name] for name in ("id", "number")]
        if indices is not None:
            columns = [column.take(to_arrow(indices)) for column in columns]
        for rows in self._batches(columns):
            for identity, number in rows:
                yield identity or self._made_up_id(number)

    def images(self) -> Iterator[tuple[str, ...]]:
        """The names of the images of every record."""
        for rows in self._batches([self._columns["images"]]):
            for (names,) in rows:
                yield self._names(names)

    def image_names(self, indices: np.ndarray | None = None) -> list[str]:
        """The names of the images of some records, or of all, each once."""
        images = self.images()
        if indices is not None:
            chosen = np.zeros(len(self), bool)
            chosen[indices] = True
            images = compress(images, chosen.tolist())
        return list(dict.fromkeys(chain.from_iterable(images)))

    def silent(self) -> Iterator[int]:
        """Number of every record in which an answer is marked to carry no loss."""
        marked = pc.is_valid(self._columns["silent"])
        yield from self._columns["number"].filter(marked).to_pylist()

    def unread(self) -> Iterator[tuple[int, list[str], Mapping[str, Any]]]:
        """Number, keys that nothing reads, and details of every record that has such keys."""
        having = pc.indices_nonzero(pc.is_valid(self._columns["unread"]))
        columns = [self._columns[name].take(having) for name in ("number", "unread", "details")]
        for rows in self._batches(columns):
            for number, keys, details in rows:
                yield number, keys, json.loads(details) if details else {}

    def answers(self) -> np.ndarray:
        """Number of assistant turns of every record, `[record]`."""
        counts = self._computed("texts", pc.list_value_length)
        return (counts - self._computed("system", lambda column: column.cast(pa.int32()))) // 2

    def image_counts(self) -> np.ndarray:
        """Number of images of every record, `[record]`."""
        return self._computed("images", pc.list_value_length)

    def option_counts(self) -> np.ndarray:
        """Number of options of every record, `[record]`."""
        return self._computed(
            "options", lambda column: pc.fill_null(pc.list_value_length(column), 0)
        )

    def has_embedded_images(self) -> bool:
        """Whether the embedded images are in the cache; `open_image` looks at their content."""
        for chunk in self._chunks("images"):
            names = pc.list_flatten(chunk)
            embedded = names.filter(pc.starts_with(names, _EMBEDDED))
            if not all(map(self._is_whole, embedded.to_pylist())):
                return False
        return True

    def containing(self, pattern: str) -> np.ndarray:
        """Indices of the records with a turn or reference in which a regular expression (RE2)
        matches, ascending.
        """
        places: list[np.ndarray] = []
        for name in ("texts", "references"):
            start = 0
            for chunk in self._chunks(name):
                hit = pc.match_substring_regex(pc.list_flatten(chunk), pattern)
                places.append(start + np.from_dlpack(pc.list_parent_indices(chunk).filter(hit)))
                start += len(chunk)
        return np.unique(np.concatenate(places)) if places else np.zeros(0, np.int64)

    def _batches(self, columns: list[Any]) -> Iterator[Iterator[tuple[Any, ...]]]:
        for start in range(0, len(columns[0]), _ROWS):
            batch = [column.slice(start, _ROWS).to_pylist() for column in columns]
            self._content.release()
            yield zip(*batch, strict=True)

    def _chunks(self, name: str) -> Iterator[pa.Array]:
        """A column by batches, of which one at a time is in memory."""
        for chunk in self._columns[name].chunks:
            yield chunk
            self._content.release()

    def _computed(self, name: str, function: Callable[[pa.Array], pa.Array]) -> np.ndarray:
        """The numbers that a function without nulls gives for a column, `[record]`."""
        numbers = [np.from_dlpack(function(chunk)) for chunk in self._chunks(name)]
        return np.concatenate(numbers) if numbers else np.zeros(0, np.int32)

    def _record(self, values: Sequence[Any]) -> Record:
        identity, task, images, system, texts, silent, references, number, details = values[:9]
        unread, options = values[9:]
        turns = tuple(
            Turn(_role(i - system), text, i not in (silent or ())) for i, text in enumerate(texts)
        )
        return Record(
            identity or self._made_up_id(number),
            task,
            self._names(images),
            turns,
            tuple(references) if references else (texts[-1],),
            number,
            json.loads(details) if details else {},
            tuple(unread or ()),
            tuple(options or ()),
        )

    def _made_up_id(self, number: int) -> str:
        return f"{self.source.stem}_{number}"

    def _names(self, stored: list[str]) -> tuple[str, ...]:
        return tuple(map(self._name, stored))

    def _name(self, stored: str) -> str:
        if not stored.startswith(_EMBEDDED):
            return stored
        return os.path.join(self.image_cache, stored.rpartition(":")[2])

    def _is_whole(self, stored: str) -> bool:
        path, size = self._name(stored), int(stored.split(":")[1])
        return os.path.isfile(path) and os.path.getsize(path) == size


def _role(number: int) -> Role:
    """Role of the turn at `number`, counted from the first user turn."""
    if number < 0:
        return "system"
    return "assistant" if number % 2 else "user"


def open_records(path: Path, cache: Path, evaluation: bool = False) -> Records:
    """The records of `path`, converted when they have not been before.

    Args:
        path: a `.jsonl`, `.json` or `.parquet` file in the LLaVA or the `messages` form.
        cache: directory of converted files, such as `default_cache()`.
        evaluation: whether every record must have exactly one question and one answer.

    Raises:
        DataError: the first errors by file and record, and how many more there are; or the file
            was changed while it was read.
    """
    with sound_records(path, cache, evaluation) as (records, problems):
        if not problems:
            return records
    count = "1 error" if len(problems) == 1 else f"{len(problems):,} errors"
    raise DataError(
        f"{path}: {count}:\n{first_lines(problems, _SHOWN)}\n"
        "`cotbal check RECIPE` lists every error of a recipe",
        problems[0].code if len(problems) == 1 else "invalid-records",
    )


@contextmanager
def sound_records(
    path: Path, cache: Path, evaluation: bool
) -> Iterator[tuple[Records, list[Problem]]]:
    """The records of `path` that have no error, and the errors of the others.

    The conversion is kept only when there was no error; otherwise the records live as long as the
    block.

    Raises:
        DataError: the file was replaced or changed while it was converted.
    """
    digest = source_digest(path)
    kind = "-evaluation" if evaluation else ""
    kept = cache / f"{digest}-{SCHEMA_VERSION}{kind}{owner()}.arrow"
    if (whole := _kept_records(path, digest, kept, cache)) is not None:
        yield whole, []
        return
    cache.mkdir(parents=True, exist_ok=True)
    remove_leftovers(cache)
    with _new_directory(temporary(kept)) as directory:
        arrow = directory / "records.arrow"
        problems = [*_convert(path, arrow, cache, evaluation)]
        need_same_source(path, digest)
        seal(arrow, kept.name)
        records = Records(path, digest, arrow, cache)
        problems += problems_of_whole(records)
        if not problems:
            _sync(arrow)
            os.replace(arrow, kept)
        yield records, problems


def _kept_records(path: Path, digest: str, kept: Path, cache: Path) -> Records | None:
    """The converted records; None where there are none, or files of the cache are damaged or of
    another user.
    """
    if not kept.is_file() or not is_own(kept):
        return None
    try:
        if not is_sealed(kept):
            return None
        records = Records(path, digest, kept, cache)
        return records if records.has_embedded_images() else None
    except DAMAGED:
        return None


@contextmanager
def _new_directory(path: Path) -> Iterator[Path]:
    """A directory for as long as the block runs."""
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    """Write the bytes of a file to disk before its name: a crash must not leave an empty file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _convert(path: Path, arrow: Path, cache: Path, evaluation: bool) -> Iterator[Problem]:
    """Write the sound records of `path`, a batch at a time, and give the errors of the others."""
    results = _read(path, cache, evaluation)
    empty = True
    with pa.OSFile(str(arrow), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        while batch := list(islice(results, _ROWS)):
            empty = False
            yield from (problem for problem in batch if isinstance(problem, Problem))
            rows = [_row(record) for record in batch if isinstance(record, Record)]
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=_SCHEMA))
    if empty:
        yield Problem(path, 0, "expected at least one record; found none", "no-records")


def _read(path: Path, cache: Path, evaluation: bool) -> Iterator[Record | Problem]:
    for row in read_rows(path):
        if isinstance(row, Problem):
            yield row
            continue
        number, raw = row
        result = normalise(raw, number, evaluation, lambda content: _keep_image(content, cache))
        if isinstance(result, Record):
            yield result
        else:
            yield from (Problem.of(path, number, error) for error in result)


def _row(record: Record) -> dict[str, Any]:
    """The columns of one record; None where the usual needs no room."""
    silent = [index for index, turn in enumerate(record.turns) if not turn.loss]
    return {
        "id": record.id or None,
        "task": record.task,
        "images": list(record.images),
        "system": record.turns[0].role == "system",
        "texts": [turn.text for turn in record.turns],
        "silent": silent or None,
        "references": list(record.references) if len(record.references) > 1 else None,
        "number": record.number,
        "details": json.dumps(record.details) if record.details else None,
        "unread": list(record.unread) or None,
        "options": list(record.options) or None,
    }


def _keep_image(content: bytes, cache: Path) -> str:
    """Write an embedded image under the hash of its bytes and return its stored name."""
    try:
        with opened(io.BytesIO(content)) as image:
            kind = str(image.format).lower()
    except Exception as error:  # Pillow's decoders raise errors of many kinds on broken data
        raise DataError(
            f"expected an embedded image; found {len(content)} bytes that are none ({error})",
            "broken-image",
        ) from None
    name = f"{hashlib.sha256(content).hexdigest()}.{kind}"
    target = image_cache(cache) / name
    if not target.is_file() or target.stat().st_size != len(content):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = temporary(target)
        part.write_bytes(content)
        _sync(part)
        os.replace(part, target)
    return f"{_EMBEDDED}{len(content)}:{name}"
