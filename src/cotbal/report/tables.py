"""Tables of weights and scores; the page and the Markdown show the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cotbal.balance import Balance
from cotbal.balance.probes import form_of, form_runs
from cotbal.report.contents import Contents
from cotbal.report.formatting import DASH, bracket, count, number, with_interval
from cotbal.scores.interval import Interval
from cotbal.scores.matrix import ScoreMatrix
from cotbal.scores.task_scores import MetricScores


class Strong(str):
    """The text of a bold cell."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """Cells as texts.

    Attributes:
        title: what the table shows, with equation numbers.
        header: of every column; the first column names the rows.
        rows: the cells; those of class `Strong` are bold.
        footer: number of rows at the end that summarise the others.
        words: columns that hold words rather than numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footer: int = 0
    words: frozenset[int] = frozenset()


def balance_tables(balance: Balance) -> list[Table]:
    """The weights, and everything that they follow from."""
    return [
        weights_table(balance),
        parts_table(balance),
        measures_table(balance),
        contribution_table(balance),
    ]


def weights_table(balance: Balance) -> Table:
    """Weights with their intervals and verdicts."""
    rows = []
    for unit in balance.units:
        weight = balance.weight(unit)
        rows.append((unit, number(weight.value), bracket(weight), verdict(balance, unit)))
    title = f"Weights, Eq. 11 (mean 1), at temperature {balance.temperature:.3g}"
    header = ("unit", "weight", "95 % interval", "in words")
    return Table(title, header, tuple(rows), words=frozenset({3}))


def verdict(balance: Balance, unit: str) -> str:
    """The weight of `unit` in words, with the consequence where it is clear."""
    weight = balance.weight(unit)
    if not weight.excludes(1):
        return balance.verdict(unit)
    direction = "more" if weight.value > 1 else "less"
    return f"{balance.verdict(unit)}: its tokens count {direction} than the average"


def parts_table(balance: Balance) -> Table:
    """The parts of the weights."""
    columns = {
        "outward (Eq. 5)": _cells(balance.part("outward")),
        "inward (Eq. 7)": _cells(balance.part("inward")),
        "inter (Eq. 8)": _cells(balance.part("inter")),
        "intra (Eq. 10)": _cells(balance.part("intra")),
        "all (Eq. 11)": list(map(Strong, _cells(balance.part("all")))),
    }
    rows = tuple(zip(balance.units, *columns.values(), strict=True))
    return Table("Parts of the weights", ("unit", *columns), rows)


def measures_table(balance: Balance) -> Table:
    """The three numbers per unit that the parts are computed from."""
    columns = {
        "outward contribution (Eq. 4)": _cells(balance.measure("outward")),
        "inward contribution (Eq. 6)": _cells(balance.measure("inward")),
        "difficulty (Eq. 9)": _cells(balance.measure("difficulty")),
    }
    rows = tuple(zip(balance.units, *columns.values(), strict=True))
    return Table("What was measured", ("unit", *columns), rows)


def _cells(intervals: Sequence[Interval]) -> list[str]:
    return [with_interval(interval) for interval in intervals]


def contribution_table(balance: Balance) -> Table:
    """Contribution, giver by receiver."""
    rows = tuple(
        (giver, *_cells(row))
        for giver, row in zip(balance.units, balance.contributions(), strict=True)
    )
    title = "Contribution of a giver (row) to a receiver (column), Eq. 3"
    return Table(title, ("giver", *balance.units), rows)


def scores_table(contents: Contents, matrix: ScoreMatrix) -> Table:
    """The score matrix, with the maximum of each metric and the score of a constant answer.

    The score of each task in the run that saw the large portion of its unit is bold.
    """
    units = [contents.unit_of(task) for task in matrix.tasks]
    giver = form_runs(form_of(matrix.runs), "real", units).giver
    rows = []
    for run, scores in zip(matrix.runs, matrix.values, strict=True):
        cells = [DASH if np.isnan(score) else number(score) for score in scores]
        row = zip(units, cells, strict=True)
        rows.append((run, *(Strong(cell) if giver[unit] == run else cell for unit, cell in row)))
    footer = _metric_rows(contents, matrix.tasks)
    return Table(
        "Score matrix: run (row) by task (column), on the validation sets; higher is better",
        ("run", *matrix.tasks),
        (*rows, *footer),
        footer=len(footer),
    )


def _metric_rows(contents: Contents, tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """Facts about the metric of every task; none where no probe has scores yet."""
    columns = [_metric_cells(contents, task) for task in tasks]
    if not any(columns):
        return []
    names = ("best constant answer", "maximum", "metric", "samples")
    cells = [column or (DASH,) * len(names) for column in columns]
    return [(name, *row) for name, *row in zip(names, *cells, strict=True)]


def _metric_cells(contents: Contents, task: str) -> tuple[str, ...] | None:
    for run in reversed(contents.probes):
        scores = run.scores.get((task, "validation"))
        if scores is None:
            continue
        name = contents.metric_of(scores)
        if name not in scores.metrics:
            return None
        metric = scores.metrics[name]
        return _constant(metric), f"{metric.maximum:g}", name, count(len(scores.clusters))
    return None


def _constant(metric: MetricScores) -> str:
    return DASH if metric.constant is None else number(metric.constant.score)
