"""The score matrix: run x task, higher is better already applied, with the per-sample scores behind every cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cotbal.errors import ScoresError


@dataclass(frozen=True)
class Samples:
    """What lies behind one column of the score matrix.

    Attributes:
        values: score of every run on every validation sample, the same samples in the same order for every run.
        clusters: which samples belong together (several questions on one picture), numbered from 0; they are
            resampled together, because their errors are not independent.
        maximum: the largest value that the metric can give.
        constant: per-sample scores of the best constant answer, or None when it is not known.
        constant_answer: that answer.
    """

    values: Float[np.ndarray, "run sample"]
    clusters: Int[np.ndarray, " sample"]
    maximum: float
    constant: Float[np.ndarray, " sample"] | None = None
    constant_answer: str = ""


@dataclass(frozen=True)
class ScoreMatrix:
    """Score of every run on every task's validation set.

    Attributes:
        runs: names of the rows (`mini`, `full:<unit>`, ...).
        tasks: names of the columns.
        values: `P[run, task]`, higher is better.
        samples: task -> the samples behind its column; empty for a bare table of scores.
    """

    runs: tuple[str, ...]
    tasks: tuple[str, ...]
    values: Float[np.ndarray, "run task"]
    samples: Mapping[str, Samples] = field(default_factory=dict)

    def row(self, run: str) -> int:
        """Index of `run`.

        Raises:
            ScoresError: there is no such row.
        """
        if run not in self.runs:
            raise ScoresError(f"expected a row {run!r} in the table of scores; found {', '.join(self.runs)}")
        return self.runs.index(run)

    def to_csv(self) -> str:
        """The table with header `run,<task>,...`, numbers unrounded."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["run", *self.tasks])
        for run, row in zip(self.runs, self.values, strict=True):
            writer.writerow([run, *(repr(float(value)) for value in row)])
        return text.getvalue()


def read_scores(path: Path) -> ScoreMatrix:
    """Read a table of scores with header `run,<task>,...` and one row a run.

    Raises:
        ScoresError: no such file, a malformed header, a repeated run or task, or a cell that is not a finite number.
    """
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScoresError(f"{path}: expected a CSV table of scores; {error}") from None
    numbered = [(number, row) for number, row in enumerate(rows, 1) if any(cell.strip() for cell in row)]
    if not numbered:
        raise ScoresError(f"{path}: expected a header `run,<task>,...`; found an empty file")
    header = [cell.strip() for cell in numbered[0][1]]
    if header[0] != "run" or len(header) < 2 or "" in header:
        raise ScoresError(f"{path}: expected a header `run,<task>,...`; found {','.join(header)!r}")
    tasks = _distinct(header[1:], path, "task")
    runs = _distinct([row[0].strip() for _, row in numbered[1:]], path, "run")
    values = [_numbers(row, tasks, f"{path}, line {number}") for number, row in numbered[1:]]
    return ScoreMatrix(runs, tasks, np.array(values, dtype=float).reshape(len(runs), len(tasks)))


def _distinct(names: Sequence[str], path: Path, kind: str) -> tuple[str, ...]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ScoresError(f"{path}: expected every {kind} once; found {', '.join(map(repr, repeated))} more than once")
    return tuple(names)


def _numbers(row: Sequence[str], tasks: Sequence[str], place: str) -> list[float]:
    if len(row) != len(tasks) + 1:
        raise ScoresError(f"{place}: expected {len(tasks)} scores after the name of the run; found {len(row) - 1}")
    numbers = []
    for task, cell in zip(tasks, row[1:], strict=True):
        try:
            number = float(cell)
        except ValueError:
            number = float("nan")
        if not np.isfinite(number):
            raise ScoresError(f"{place}, column {task!r}: expected a finite number; found {cell!r}")
        numbers.append(number)
    return numbers
