"""How many tokens of a record are trained: those that carry loss before `model.max_length`.

They depend on the chat template and on how many tokens the processor makes of an image. The
processor needs PyTorch, so it runs in a process of its own (`length_process`), and planning and
checking stay without it. Where the checkpoint has only a `tokenizer.json`, or PyTorch is not
installed, the answers alone are counted.
"""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from cotbal.data.conversations import Record
from cotbal.data.tokens import open_tokenizer
from cotbal.errors import CotbalError
from cotbal.recipe.recipe import Recipe

END_OF_TURN = 1  # every answer is followed by one token that ends the turn
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")

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


class Meter(Protocol):
    """Measures records. `exact` means: with template, images and `model.max_length`."""

    exact: bool

    def lengths(self, items: Sequence[Item], cut: bool = True, /) -> list[Length | str]:
        """The length of every record, or why it cannot be used; `cut` applies `max_length`."""

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

    def lengths(self, items: Sequence[Item], _cut: bool = True, /) -> list[Length | str]:
        return [self._length(record) for record, _ in items]

    def _length(self, record: Record) -> Length:
        valid = sum(
            len(self._encode(answer, add_special_tokens=False)) + END_OF_TURN
            for answer in record.learnt
        )
        return Length(valid, valid, None)

    def rejected(self, _names: Sequence[str], /) -> Mapping[str, str]:
        return {}


class _ProcessorMeter:
    """Asks the process that holds the processor; it starts with the first question."""

    exact = True

    def __init__(self, recipe: Recipe, errors: IO[bytes]) -> None:
        model = recipe.model
        self._settings = (recipe.checkpoint, model.remote_code, recipe.images, model.max_length)
        self._errors = errors
        self._process: subprocess.Popen[bytes] | None = None

    def lengths(self, items: Sequence[Item], cut: bool = True, /) -> list[Length | str]:
        found: list[Length | str] = self._ask("lengths", list(items), cut)
        return found

    def rejected(self, names: Sequence[str], /) -> Mapping[str, str]:
        found: dict[str, str] = self._ask("rejected", list(names))
        return found

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _ask(self, *question: Any) -> Any:
        """
        Raises:
            CotbalError: the processor cannot be loaded, or its process ended.
        """
        try:
            kind, reply = self._reply(question)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise CotbalError(
                f"checkpoint {self._settings[0]}: its processor ended while records were measured: "
                f"{self._last_words()}"
            ) from None
        if kind == "error":
            raise CotbalError(reply)
        return reply

    def _reply(self, question: tuple[Any, ...]) -> Any:
        process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        pickle.dump(question, process.stdin)
        process.stdin.flush()
        return pickle.load(process.stdout)

    def _started(self) -> subprocess.Popen[bytes]:
        process = self._process = subprocess.Popen(
            [sys.executable, "-m", "cotbal.data.length_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        assert process.stdin is not None
        pickle.dump(self._settings, process.stdin)
        return process

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a message"
