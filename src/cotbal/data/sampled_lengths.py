"""Mean tokens of a task's records, measured on a sample and remembered for the next plan."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from cotbal.data.conversations import Record
from cotbal.data.files import read_json, write_json
from cotbal.data.images import resolve, size_of
from cotbal.data.lengths import Meter
from cotbal.data.records import SCHEMA_VERSION, Records
from cotbal.data.truncation import Truncation
from cotbal.errors import DataError, RunError
from cotbal.recipe.recipe import Recipe

_VERSION = 1  # raise it with every change of what is measured
_CONTENT = ("*.json", "*.jinja", "*.txt", "*.model", "*.py")  # of a checkpoint, but its weights


def sampled_lengths(
    recipe: Recipe,
    records: Records,
    sample: Sequence[int],
    instruction: str | None,
    meter: Meter,
    cache: Path,
) -> Truncation:
    """Tokens of the records at the places `sample`; measured once for the same records, images,
    processor and `max_length`.

    Raises:
        DataError: a record of the sample cannot be trained.
    """
    rows = [records[place] for place in sample]
    key = hashlib.sha256("\n".join(_facts(recipe, records, rows, instruction, meter)).encode())
    path = cache / "lengths" / f"{key.hexdigest()}.json"
    if path.exists():
        with suppress(RunError, TypeError):  # not whole: measure again
            return Truncation(**read_json(path))
    found = _measured(records, rows, instruction, meter)
    write_json(path, asdict(found))
    return found


def _measured(
    records: Records, rows: Sequence[Record], instruction: str | None, meter: Meter
) -> Truncation:
    found = Truncation()
    lengths = meter.lengths([(row, instruction) for row in rows])
    for row, length in zip(rows, lengths, strict=True):
        if isinstance(length, str):
            raise DataError(f"{records.source}, record {row.number}: {length}")
        found.add(row.number, length)
    return found


def _facts(
    recipe: Recipe,
    records: Records,
    rows: Sequence[Record],
    instruction: str | None,
    meter: Meter,
) -> Iterator[str]:
    """Everything that lengths depend on, one fact per line."""
    yield f"{_VERSION} {SCHEMA_VERSION} {meter.exact} {recipe.model.max_length}"
    yield " ".join(f"{name} {_version(name)}" for name in ("cotbal", "tokenizers", "transformers"))
    yield f"{records.digest} {json.dumps(instruction)} {recipe.model.remote_code}"
    checkpoint = Path(recipe.checkpoint)
    for path in sorted(path for pattern in _CONTENT for path in checkpoint.glob(pattern)):
        yield f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    for row in rows:
        yield f"record {row.number}"
        yield from (_image(resolve(recipe.images, name)) for name in row.images)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _image(path: Path) -> str:
    try:
        return f"image {size_of(path)}"
    except DataError:
        return "no image"
