"""How many tokens of a record are trained: those that carry loss before `model.max_length`.

They depend on the chat template and on how many tokens the processor makes of an image. The
processor needs PyTorch, so it runs in a process of its own (`measuring`), and planning and
checking stay without it. Where the checkpoint has only a `tokenizer.json`, or PyTorch is not
installed, the answers alone are counted.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from cotbal.data.batches.tokens import open_tokenizer
from cotbal.data.files import is_own, owner, read_json, write_sealed
from cotbal.data.reading.images import resolve, size_of
from cotbal.data.reading.record import Problem, Record
from cotbal.data.reading.records import SCHEMA_VERSION, Records
from cotbal.errors import CotbalError, DataError, RunError
from cotbal.recipe.recipe import Recipe

END_OF_TURN = 1  # every answer is followed by one token that ends the turn
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
_MEASURING = "cotbal.data.batches.measuring"
_VERSION = 1  # raise it with every change of what is measured
_CONTENT = ("*.json", "*.jinja", "*.txt", "*.model", "*.py")  # of a checkpoint, but its weights

Item = tuple[Record, str | None]  # a record and the instruction of its task


class Length(NamedTuple):
    """Tokens of one record.

    Attributes:
        valid: that carry loss.
        kept: of these, the ones before `model.max_length`, which are trained.
        tokens: of the whole record, images included; None when only its answers were counted.
    """

    valid: int
    kept: int
    tokens: int | None


@dataclass
class Truncation:
    """Tokens of the records of one training file.

    Attributes:
        records: that were measured.
        valid, kept: tokens that carry loss, and those of them before `max_length`.
        cut, emptied: records that lose some of their valid tokens, and all of them.
        longest: tokens of the longest record; 0 where none was measured as a whole.
        first: number of the first record that loses a valid token.
    """

    records: int = 0
    valid: int = 0
    kept: int = 0
    cut: int = 0
    emptied: int = 0
    longest: int = 0
    first: int = 0

    def add(self, number: int, length: Length) -> None:
        """Count one record."""
        self.records += 1
        self.valid += length.valid
        self.kept += length.kept
        self.longest = max(self.longest, length.tokens or 0)
        if length.kept < length.valid:
            self.first = self.first or number
            self.cut += 1
            self.emptied += not length.kept

    def warning(self, task: str, file: Path, limit: int) -> str | None:
        """What is lost, in one sentence; None where nothing is, or everything."""
        if not self.cut or not self.kept:
            return None
        lost = self.valid - self.kept
        whole = f", {self.emptied:,} of them all" if self.emptied else ""
        return (
            f"task {task}: model.max_length = {limit} cuts off {lost:,} of {self.valid:,} valid "
            f"tokens ({100 * lost / self.valid:.1f} %): {self.cut:,} of {self.records:,} records "
            f"lose some{whole}; the first is {file}, record {self.first}, the longest has "
            f"{self.longest:,} tokens"
        )

    def problem(self, task: str, file: Path, limit: int) -> Problem | None:
        """The error of a task that would train with no token at all."""
        if self.kept or not self.valid:
            return None
        message = (
            f"task {task}: model.max_length = {limit} cuts off every answer, so nothing would be "
            f"trained; raise it (the longest of {self.records:,} records has {self.longest:,} "
            "tokens)"
        )
        return Problem(file, 0, message, "nothing-trained")


class Meter(Protocol):
    """Measures records. `exact` means: with template, images and `model.max_length`."""

    exact: bool

    def lengths(self, items: Sequence[Item], cut: bool = True, /) -> list[Length | CotbalError]:
        """The length or the error of every record; `cut` applies `max_length`."""

    def rejected(self, names: Sequence[str], /) -> Mapping[str, str]:
        """Images that the processor cannot process, by name, with the reason."""


@contextmanager
def open_meter(recipe: Recipe) -> Iterator[Meter | None]:
    """The most exact meter that the checkpoint and the installation allow, or None."""
    directory = Path(recipe.checkpoint) if recipe.file.model is not None else None
    if directory is None:
        yield None
    elif any((directory / name).exists() for name in _PROCESSOR_FILES) and _installed("torch"):
        with tempfile.TemporaryFile() as errors:
            meter = _ProcessorMeter(recipe, errors)
            try:
                yield meter
            finally:
                meter.close()
    elif (directory / "tokenizer.json").exists() and _installed("tokenizers"):
        yield _TokenizerMeter(directory / "tokenizer.json")
    else:
        yield None


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False


class _TokenizerMeter:
    """Counts the tokens of the answers and of the ends of turns."""

    exact = False

    def __init__(self, path: Path) -> None:
        self._encode = open_tokenizer(path, "counting tokens").encode

    def lengths(self, items: Sequence[Item], _cut: bool = True, /) -> list[Length | CotbalError]:
        lengths: list[Length | CotbalError] = []
        for record, _ in items:
            answers = [self._encode(text, add_special_tokens=False) for text in record.learnt]
            valid = sum(len(answer) + END_OF_TURN for answer in answers)
            lengths.append(Length(valid, valid, None))
        return lengths

    def rejected(self, _names: Sequence[str], /) -> Mapping[str, str]:
        return {}


class _ProcessorMeter:
    """Calls the process that holds the processor; it starts with the first call."""

    exact = True

    def __init__(self, recipe: Recipe, errors: IO[bytes]) -> None:
        model = recipe.model
        self._settings = (recipe.checkpoint, model.remote_code, recipe.images, model.max_length)
        self._errors = errors
        self._process: subprocess.Popen[bytes] | None = None

    def lengths(self, items: Sequence[Item], cut: bool = True, /) -> list[Length | CotbalError]:
        lengths: list[Length | CotbalError] = self._call("lengths", list(items), cut)
        return lengths

    def rejected(self, names: Sequence[str], /) -> Mapping[str, str]:
        reasons: dict[str, str] = self._call("rejected", list(names))
        return reasons

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _call(self, *call: Any) -> Any:
        """
        Raises:
            CotbalError: the processor cannot be loaded, or its process ended.
        """
        try:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", _MEASURING, str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                )
                self._send(self._process, self._settings)
            self._send(self._process, call)
            assert self._process.stdout is not None
            reply = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            raise CotbalError(
                f"checkpoint {self._settings[0]}: its processor ended while records were measured: "
                f"{lines[-1] if lines else 'without a message'}",
                "processor-failed",
            ) from None
        if isinstance(reply, CotbalError):
            raise reply
        return reply

    def _send(self, process: subprocess.Popen[bytes], message: tuple[Any, ...]) -> None:
        assert process.stdin is not None
        pickle.dump(message, process.stdin)
        process.stdin.flush()


def sampled_lengths(
    recipe: Recipe,
    records: Records,
    sample: Sequence[int],
    instruction: str | None,
    meter: Meter,
    cache: Path,
) -> Truncation:
    """Tokens of the records with the indices `sample`; measured once for the same records, images,
    processor and `max_length`.

    Raises:
        DataError: a record of the sample cannot be trained.
    """
    rows = [records[i] for i in sample]
    facts = [
        f"{_VERSION} {SCHEMA_VERSION} {meter.exact} {recipe.model.max_length}",
        f"{records.digest} {json.dumps(instruction)} {recipe.model.remote_code}",
        *_facts_of_checkpoint(Path(recipe.checkpoint)),
        *_facts_of_images(recipe.images, rows),
    ]
    key = hashlib.sha256("\n".join(facts).encode())
    # A folder per user: others may not write into it, and what others write is not read.
    path = cache / f"lengths{owner()}" / f"{key.hexdigest()}.json"
    if (before := _kept(path)) is not None:
        return before
    measured = Truncation()
    lengths = meter.lengths([(row, instruction) for row in rows])
    for row, length in zip(rows, lengths, strict=True):
        if not isinstance(length, Length):
            raise DataError(f"{records.source}, record {row.number}: {length}", length.code)
        measured.add(row.number, length)
    with suppress(OSError):  # a cache that cannot be written is no error: it is measured again
        write_sealed(path, asdict(measured))
    return measured


def _kept(path: Path) -> Truncation | None:
    """What an earlier command measured; None for no file, a damaged one, or one of another user."""
    try:
        return Truncation(**read_json(path)) if is_own(path) else None
    except (OSError, RunError, TypeError):
        return None


def _facts_of_checkpoint(checkpoint: Path) -> Iterator[str]:
    for package in ("cotbal", "tokenizers", "transformers"):
        with suppress(importlib.metadata.PackageNotFoundError):
            yield f"{package} {importlib.metadata.version(package)}"
    for path in sorted(path for pattern in _CONTENT for path in checkpoint.glob(pattern)):
        yield f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _facts_of_images(root: Path, rows: Sequence[Record]) -> Iterator[str]:
    for row in rows:
        yield f"record {row.number}"
        for name in row.images:
            try:
                yield f"image {size_of(resolve(root, name))}"
            except DataError:
                yield "no image"
