"""A table of test results: method x metric of a task, as published tables print it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cotbal.errors import ScoresError
from cotbal.scores.csv_table import CsvTable, Kind, read_table, to_csv

KIND = Kind("method", "<task>:<metric>", "results")
LOWER = "-"  # a metric whose name ends in it is better when lower


@dataclass(frozen=True)
class Column:
    """One metric of one task."""

    task: str
    metric: str

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is a better one."""
        return not self.metric.endswith(LOWER)

    def __str__(self) -> str:
        return f"{self.task}:{self.metric}"


@dataclass(frozen=True)
class Results:
    """Scores of methods.

    Attributes:
        methods: names of the rows.
        columns: one per metric of a task; a task may have several.
        values: as measured, `[method, column]`.
    """

    methods: tuple[str, ...]
    columns: tuple[Column, ...]
    values: Float[np.ndarray, "method column"]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order of first appearance."""
        return tuple(dict.fromkeys(column.task for column in self.columns))

    def row(self, method: str) -> int:
        """Index of `method`.

        Raises:
            ScoresError: there is no such row.
        """
        if method not in self.methods:
            raise ScoresError(
                f"expected one of the methods {', '.join(self.methods)}; found {method!r}",
                "unknown-method",
            )
        return self.methods.index(method)

    def to_csv(self) -> str:
        """The table with header `method,<task>:<metric>,...`, numbers unrounded."""
        return to_csv(KIND, CsvTable(self.methods, tuple(map(str, self.columns)), self.values))


def read_results(path: Path) -> Results:
    """Read a table with header `method,<task>:<metric>,...` and one row per method.

    Raises:
        ScoresError: an invalid table, see `read_table`.
    """
    table = read_table(path, KIND)
    parts = [name.rpartition(":") for name in table.columns]
    for name, (task, _, metric) in zip(table.columns, parts, strict=True):
        if not (task and metric):
            raise ScoresError(
                f"{path}: expected a header {KIND.header}; found the column {name!r:.200}",
                "invalid-header",
            )
    columns = tuple(Column(task, metric) for task, _, metric in parts)
    return Results(table.rows, columns, table.values)
