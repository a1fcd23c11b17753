"""The elements of a JSON array, one in memory at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

DEEPEST = 100  # levels of nesting in a record
_CHUNK = 2**16  # characters
_TAIL = (
    16  # characters in which an error may come from a cut: a number, `-Infinity`, a half of a pair
)
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_CUT = re.compile(r"(\.|[eE][+-]?)?")  # behind a number: more of it may follow


def json_items(file: TextIO) -> Iterator[Any]:
    """The elements of the array that begins where `file` is.

    Raises:
        ValueError: broken JSON, or text in another encoding.
        RecursionError: an element is nested very deeply.
    """
    text = _Text(file)
    text.take("[")
    if text.next_sign() == "]":
        text.take("]")
    else:
        yield text.take_element()
        while text.take(",]") == ",":
            yield text.take_element()
    if text.next_sign():
        raise ValueError("found more behind the end of the array")


class _Text:
    """What is left of a text; no more of it is in memory than one element needs."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._at = 0

    def next_sign(self) -> str:
        """The next character that is no space, not taken; nothing at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text) or not self._read_more():
                return self._text[self._at : self._at + 1]

    def take(self, signs: str) -> str:
        """Take one of these characters.

        Raises:
            ValueError: another one is next.
        """
        sign = self.next_sign()
        if not sign or sign not in signs:
            raise ValueError(f"expected {' or '.join(signs)}; found {sign or 'the end'!r}")
        self._at += 1
        return sign

    def take_element(self) -> Any:
        """Take one element; read on as long as it may be cut.

        Raises:
            ValueError: it is broken, or nested too deeply.
        """
        self.next_sign()
        while True:
            try:
                element, end = _DECODER.raw_decode(self._text, self._at)
                if not _CUT.fullmatch(self._text, end):
                    break
            except json.JSONDecodeError as error:
                in_text = error.msg.startswith("Unterminated string")
                if not in_text and error.pos < len(self._text) - _TAIL:
                    raise
            if not self._read_more():
                raise ValueError("the file ends inside this record")
        if is_too_deep(self._text, self._at, end, element):
            raise ValueError(f"more than {DEEPEST} levels of nesting")
        self._at = end
        return element

    def _read_more(self) -> bool:
        """Read as much again as is left, so that a long element takes linear time."""
        rest = self._text[self._at :]
        more = self._file.read(max(_CHUNK, len(rest)))
        self._text, self._at = rest + more, 0
        return bool(more)


def is_too_deep(text: str, start: int, end: int, value: Any) -> bool:
    """Whether a value that was read from this part of a text has more than `DEEPEST` levels."""
    brackets = text.count("[", start, end) + text.count("{", start, end)
    if brackets <= DEEPEST:
        return False
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [inner for outer in level for inner in _parts(outer)]
    return bool(level)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
