"""The cells of a table in a text file, as spreadsheets and scripts write them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from cotbal.errors import ScoresError

COMMA, SEMICOLON, TAB = ",", ";", "\t"
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")

Lines = list[tuple[int, list[str]]]  # each with its number in the file


def csv_lines(path: Path, content: str) -> Lines:
    """The lines that are not empty, in UTF-8.

    The first one says what separates its cells: commas, semicolons or tabs. Spreadsheets write
    semicolons where the decimal point is a comma, so that `0,5` is read as `0.5` there.

    Args:
        content: what the table holds, for messages.

    Raises:
        ScoresError: no such file (`missing-file`), or no such table (`not-csv`).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        separator = _separator(text)
        lines = list(_with_content(csv.reader(io.StringIO(text), delimiter=separator)))
    except OSError as error:
        raise ScoresError(
            f"{path}: expected a CSV table of {content}; found: {error.strerror}", "missing-file"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ScoresError(
            f"{path}: expected a CSV table of {content} in UTF-8; {error}", "not-csv"
        ) from None
    if separator == SEMICOLON:
        lines = [(number, _with_points(line)) for number, line in lines]
    return lines


def _separator(text: str) -> str:
    """What separates the cells of the first line that is not empty."""
    first = next(_with_content(csv.reader(io.StringIO(text))), None)
    if first is None or len(first[1]) > 1:
        return COMMA
    cell = first[1][0]
    return next((sign for sign in (SEMICOLON, TAB) if sign in cell), COMMA)


def _with_content(lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, 1):
        if "".join(line).strip():
            yield number, line


def _with_points(line: Sequence[str]) -> list[str]:
    """Numbers with a decimal point in place of the comma."""
    return [cell.replace(COMMA, ".") if _DECIMAL_COMMA.fullmatch(cell) else cell for cell in line]
