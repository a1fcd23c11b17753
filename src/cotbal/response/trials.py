"""Tables of trials: the weights of some trainings and the scores that came out, as CSV."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from cotbal.errors import ScoresError
from cotbal.response.coordinates import doublings
from cotbal.response.design import Design
from cotbal.response.lever import RATIOS, Lever
from cotbal.response.shapes import PerTask, TrialColumn, TrialScore, TrialTask
from cotbal.scores.csv_lines import csv_lines

WEIGHT, RATIO, SCORE, SEED = "weight:", "ratio:", "score:", "seed"
FILE = "file"  # of the weights of a trial; for people, not read
SHAPE = "`weight:<task>` or `ratio:<task>`, `score:<task>` and an optional `seed`"
RUN = "run_id"  # what olmix joins its two tables on
OLMIX_NAMES = (RUN, "name", "run", "index")  # columns of olmix that are no numbers


@dataclass(frozen=True)
class Trials:
    """Trainings that differ in the weights (or sampling ratios) of their tasks.

    Attributes:
        tasks: that have a weight, the columns of `weights` and `ratios`.
        scored: that have a score, the columns of `scores`; they may be others, such as tasks that
            are only evaluated.
        weights: loss weight of every task, positive; all 1 where only ratios differ.
        scores: on validation data, at least 0.
        seeds: label of the training seed of every trial; trials of one seed see the same data.
        ratios: sampling ratio of every task, at least 0; None where all trials sample alike.
        lower_is_better: whether the scores are losses.
        source: SHA-256 of the files that the trials were read from.
        units: scored task -> the group, among `tasks`, whose weight it shares; a task that is not
            named has the weight of its own name, if there is one.
        fraction: of every task's training data that each trial saw; None where it is not known.
    """

    tasks: tuple[str, ...]
    scored: tuple[str, ...]
    weights: TrialTask
    scores: TrialScore
    seeds: tuple[str, ...]
    ratios: TrialTask | None = None
    lower_is_better: bool = False
    source: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    fraction: Fraction | None = None

    @property
    def unit_of_task(self) -> dict[str, str]:
        """Scored task -> the entry of `tasks` that holds its weight; without those that are only
        evaluated.
        """
        units = {name: self.units.get(name, name) for name in self.scored}
        return {name: unit for name, unit in units.items() if unit in self.tasks}

    @property
    def positive_ratios(self) -> TrialTask | None:
        """The ratios; where some are 0, all are raised by the smallest that is not, the resolution
        of the table.
        """
        if self.ratios is None:
            return None
        positive = self.ratios > 0
        if positive.all():
            return self.ratios
        resolution = self.ratios[positive].min()
        return self.ratios + resolution

    @property
    def reference(self) -> PerTask | None:
        """The sampling ratios that weights of 1 stand for: the geometric mean over trials."""
        ratios = self.positive_ratios
        if ratios is None:
            return None
        logs = np.log2(ratios)
        typical = np.exp2(logs.mean(axis=0))
        return typical / typical.sum()

    @property
    def doublings(self) -> TrialTask:
        """`z[trial, task]`: `log2` of weight times ratio, relative to equal weights, with mean 0.

        A task that is sampled twice as often has in expectation the gradient of twice its weight.
        """
        ratios = self.positive_ratios
        reference = self.reference
        if ratios is None or reference is None:
            return doublings(self.weights)
        return doublings(self.weights * ratios / reference)

    def to_csv(self) -> str:
        """The table as `read_trials` reads it."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        header = [WEIGHT + task for task in self.tasks]
        columns = [self.weights]
        if self.ratios is not None:
            header += [RATIO + task for task in self.tasks]
            columns.append(self.ratios)
        header += [SCORE + name for name in self.scored]
        columns.append(self.scores)
        writer.writerow([SEED, *header])
        values = np.concatenate(columns, axis=1)
        for seed, row in zip(self.seeds, values.tolist(), strict=True):
            writer.writerow([seed, *map(repr, row)])
        return text.getvalue()


def empty_table(
    design: Design, files: Sequence[str], lever: Lever, only_scored: Sequence[str] = ()
) -> str:
    """The table of planned trials, with an empty cell for every score.

    Args:
        design: the trials.
        files: where the weights of every trial are.
        lever: what differs between the trials.
        only_scored: tasks that have a score and no weight.
    """
    prefix = RATIO if lever is RATIOS else WEIGHT
    scored = [*design.tasks, *only_scored]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = [prefix + task for task in design.tasks]
    writer.writerow([FILE, SEED, *numbers, *(SCORE + name for name in scored)])
    for file, seed, row in zip(files, design.seeds, design.rounded_weights.tolist(), strict=True):
        writer.writerow([file, seed, *row, *("" for _ in scored)])
    return text.getvalue()


@dataclass(frozen=True)
class _Table:
    """The text of a CSV table, one mapping per line, with the number of the line."""

    path: Path
    columns: tuple[str, ...]
    lines: tuple[tuple[int, Mapping[str, str]], ...]

    def named(self, prefix: str) -> list[str]:
        """What follows the prefix in the columns that have it."""
        return [name.removeprefix(prefix) for name in self.columns if name.startswith(prefix)]

    def numbers(self, columns: Sequence[str], zero: bool = False) -> TrialColumn:
        """Positive numbers; with `zero`, they may be 0."""
        values = np.empty((len(self.lines), len(columns)))
        for i, (number, line) in enumerate(self.lines):
            for j, column in enumerate(columns):
                where = f"{self.path}, line {number}, {column!r}"
                values[i, j] = _number(line[column], where)
        _check_positive(self, columns, values, zero)
        return values


def read_trials(path: Path) -> Trials:
    """Read trials from a CSV table with columns `weight:<task>`, `score:<task>`, and optionally
    `seed` and `ratio:<task>`; other columns are ignored.

    Args:
        path: the table; or a directory with the tables `ratios.csv` and `metrics.csv` of olmix,
            whose metrics are better when lower.

    Raises:
        ScoresError: no such file, a column is missing or repeated, tasks of weights and ratios
            differ, a score is missing, or a cell is no positive number (a ratio or score may be 0);
            with the line.
    """
    if path.is_dir():
        return _read_olmix(path)
    table = _read_table(path)
    tasks, scored = _names(table)
    weights = np.ones((len(table.lines), len(tasks)))
    if table.named(WEIGHT):
        weights = table.numbers([WEIGHT + task for task in tasks])
    ratios = None
    if table.named(RATIO):
        ratios = table.numbers([RATIO + task for task in tasks], zero=True)
    return Trials(
        tasks=tuple(tasks),
        scored=tuple(scored),
        weights=weights,
        scores=_scores(table, scored),
        seeds=tuple(line.get(SEED, "").strip() for _, line in table.lines),
        ratios=ratios,
        source=_digest(path),
    )


def _scores(table: _Table, scored: Sequence[str]) -> TrialScore:
    """The scores of every trial; all cells must be filled in."""
    columns = [SCORE + task for task in scored]
    empty = [
        (number, column)
        for number, line in table.lines
        for column in columns
        if not line[column].strip()
    ]
    if empty:
        number, column = empty[0]
        raise ScoresError(
            f"{table.path}, line {number}, {column!r}: expected the validation score of this trial;"
            f" found an empty cell ({len(empty)} of {len(columns) * len(table.lines)} scores are"
            " missing)",
            "missing-score",
        )
    return table.numbers(columns, zero=True)


def _names(table: _Table) -> tuple[list[str], list[str]]:
    """Tasks with a weight or ratio, and tasks with a score."""
    weighted, sampled, scored = map(table.named, (WEIGHT, RATIO, SCORE))
    tasks = weighted or sampled
    if len(tasks) < 2 or not scored:
        raise ScoresError(
            f"{table.path}: expected columns {SHAPE}, for at least two tasks; found"
            f" {', '.join(table.columns)}",
            "missing-column",
        )
    other = sorted(set(weighted) ^ set(sampled))
    if weighted and sampled and other:
        raise ScoresError(
            f"{table.path}: expected a weight and a ratio of the same tasks; only one of both for"
            f" {', '.join(other)}",
            "missing-column",
        )
    return tasks, scored


def _read_olmix(directory: Path) -> Trials:
    """`ratios.csv` and `metrics.csv`, one row per run, joined on `run_id` (github.com/allenai/olmix
    at commit 0cf8997).
    """
    ratios = _read_table(directory / "ratios.csv")
    metrics = _joined(ratios, _read_table(directory / "metrics.csv"))
    domains = _numeric(ratios)
    scored = _numeric(metrics)
    if len(domains) < 2 or not scored:
        raise ScoresError(
            f"{directory}: expected at least two domains and one metric", "missing-column"
        )
    count = len(ratios.lines)
    return Trials(
        tasks=tuple(domains),
        scored=tuple(scored),
        weights=np.ones((count, len(domains))),
        scores=metrics.numbers(scored),
        seeds=("",) * count,
        ratios=ratios.numbers(domains, zero=True),
        lower_is_better=True,
        source=_digest(ratios.path, metrics.path),
    )


def _joined(ratios: _Table, metrics: _Table) -> _Table:
    """The metrics in the order of the runs of `ratios`."""
    for table in (ratios, metrics):
        if RUN not in table.columns:
            raise ScoresError(f"{table.path}: expected a column {RUN!r}", "missing-column")
    rows = {line[RUN]: (number, line) for number, line in metrics.lines}
    runs = [line[RUN] for _, line in ratios.lines]
    missing = ", ".join(run for run in runs if run not in rows)
    if missing:
        raise ScoresError(
            f"{metrics.path}: expected a row for every run of {ratios.path.name}; none for"
            f" {missing}",
            "missing-run",
        )
    return _Table(metrics.path, metrics.columns, tuple(rows[run] for run in runs))


def _numeric(table: _Table) -> list[str]:
    return [column for column in table.columns if column not in OLMIX_NAMES]


def _read_table(path: Path) -> _Table:
    lines = csv_lines(path, "trials")
    if len(lines) < 2:
        raise ScoresError(
            f"{path}: expected a header with columns {SHAPE}, and one line per trial",
            "missing-column",
        )
    columns = tuple(cell.strip() for cell in lines[0][1])
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise ScoresError(
            f"{path}: expected every column once; repeated: {', '.join(repeated)}", "repeated-name"
        )
    rows = []
    for number, line in lines[1:]:
        if len(line) != len(columns):
            raise ScoresError(
                f"{path}, line {number}: expected {len(columns)} cells, as in the header; found"
                f" {len(line)}",
                "wrong-length",
            )
        rows.append((number, dict(zip(columns, line, strict=True))))
    return _Table(path, columns, tuple(rows))


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ScoresError(f"{where}: expected a finite number; found {cell!r}", "not-a-number")
    return value


def _check_positive(table: _Table, columns: Sequence[str], values: np.ndarray, zero: bool) -> None:
    """Weights are above 0, since their logarithms count; ratios and scores may be 0."""
    allowed = values >= 0 if zero else values > 0
    if allowed.all():
        return
    i, j = np.argwhere(~allowed)[0]
    line, _ = table.lines[i]
    expected = "a number that is not negative" if zero else "a positive number"
    raise ScoresError(
        f"{table.path}, line {line}, {columns[j]!r}: expected {expected}; found {values[i, j]:g}",
        "not-positive",
    )


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
