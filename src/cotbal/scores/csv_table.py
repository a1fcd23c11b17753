"""A table of numbers as CSV, with names of rows and columns."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cotbal.errors import ScoresError
from cotbal.scores.csv_lines import csv_lines


@dataclass(frozen=True)
class Kind:
    """Terms for a table, for messages.

    Attributes:
        corner: first cell of the header, the term for a row.
        column: term for a column as in the header, such as `<task>`.
        content: term for the cells.
        gaps: whether a cell may be empty: NaN.
    """

    corner: str
    column: str
    content: str
    gaps: bool = False

    @property
    def header(self) -> str:
        """The expected header, for messages."""
        return f"`{self.corner},{self.column},...`"


@dataclass(frozen=True)
class CsvTable:
    """Names of rows and columns, and the numbers `[row, column]`."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Float[np.ndarray, "row column"]


def read_table(path: Path, kind: Kind) -> CsvTable:
    """Read a table; empty lines are skipped.

    Raises:
        ScoresError: no such file, an invalid header, a repeated name, a row of another length, or
            a cell that is neither a finite number nor an allowed gap.
    """
    lines = csv_lines(path, kind.content)
    if not lines:
        raise ScoresError(
            f"{path}: expected a header {kind.header}; found an empty file", "invalid-header"
        )
    _, header = lines.pop(0)
    header = [cell.strip() for cell in header]
    if header[0] != kind.corner or len(header) < 2 or "" in header:
        raise ScoresError(
            f"{path}: expected a header {kind.header}; found {','.join(header)!r:.200}",
            "invalid-header",
        )
    columns = _distinct(header[1:], path, re.sub("[<>]", "", kind.column))
    rows = _distinct([line[0].strip() for _, line in lines], path, kind.corner)
    values = np.empty((len(rows), len(columns)))
    for i, (number, line) in enumerate(lines):
        values[i] = _numbers(line, columns, kind, f"{path}, line {number}")
    return CsvTable(rows, columns, values)


def to_csv(kind: Kind, table: CsvTable) -> str:
    """The table as text, numbers unrounded, NaN as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([kind.corner, *table.columns])
    for name, row in zip(table.rows, table.values, strict=True):
        cells = ["" if np.isnan(value) else repr(float(value)) for value in row]
        writer.writerow([name, *cells])
    return text.getvalue()


def _distinct(names: Sequence[str], path: Path, kind: str) -> tuple[str, ...]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ScoresError(
            f"{path}: expected every {kind} once; found {', '.join(map(repr, repeated))} more than"
            " once",
            "repeated-name",
        )
    return tuple(names)


def _numbers(line: Sequence[str], columns: Sequence[str], kind: Kind, where: str) -> list[float]:
    if len(line) != len(columns) + 1:
        raise ScoresError(
            f"{where}: expected {len(columns)} {kind.content} after the name of the {kind.corner}; "
            f"found {len(line) - 1}",
            "wrong-length",
        )
    numbers = []
    for column, cell in zip(columns, line[1:], strict=True):
        try:
            number = float(cell)
        except ValueError:
            number = float("nan")
        is_gap = kind.gaps and not cell.strip()
        if not math.isfinite(number) and not is_gap:
            raise ScoresError(
                f"{where}, column {column!r}: expected a finite number; found {cell!r:.60}",
                "not-a-number",
            )
        numbers.append(number)
    return numbers
