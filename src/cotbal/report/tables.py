"""Tables of weights and scores; the page and the Markdown show the same cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from cotbal.balance import Balance
from cotbal.balance.probes import form_of, form_runs
from cotbal.report.crowds import END, MANY, ends
from cotbal.report.formatting import DASH, bracket, count, number, with_interval
from cotbal.scores.interval import SAMPLING_ONLY, Interval, hold_training, interval_name
from cotbal.scores.matrix import ScoreMatrix
from cotbal.scores.task_scores import MetricScores

if TYPE_CHECKING:
    from cotbal.report.contents import Contents

LEARN_FROM_PROBES = (
    "To measure that, train replicates of the cheapest probe (`balance.replicates`) or several"
    " whole sets (`balance.seeds`)."
)


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
        note: what to know about the cells.
        words: columns that hold words rather than numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footer: int = 0
    words: frozenset[int] = frozenset()
    note: str = ""


def balance_tables(balance: Balance) -> list[Table]:
    """The weights, and everything that they follow from."""
    return [
        weights_table(balance),
        parts_table(balance),
        measures_table(balance),
        contribution_table(balance),
    ]


def weights_table(balance: Balance) -> Table:
    """Weights with their intervals; verdicts where the noise of training is known."""
    weights = balance.part("all")
    title = f"Weights, Eq. 11 (mean 1), at temperature {balance.temperature:.3g}"
    header = ("unit", "weight", interval_name(weights))
    has_verdicts = hold_training(weights)
    rows: list[tuple[str, ...]] = []
    for unit, weight in zip(balance.units, weights, strict=True):
        words = [verdict(weight)] if has_verdicts else []
        rows.append((unit, number(weight.value), bracket(weight), *words))
    if not has_verdicts:
        return Table(title, header, tuple(rows), note=interval_note(weights))
    return Table(title, (*header, "in words"), tuple(rows), words=frozenset({3}))


def verdict(weight: Interval) -> str:
    """A weight against 1 in words, with the consequence where it differs."""
    if not weight.differs(1):
        return weight.verdict(1)
    direction = "more" if weight.value > 1 else "less"
    return f"{weight.verdict(1)}: its tokens count {direction} than the average"


def interval_note(intervals: Iterable[Interval]) -> str:
    """What the brackets of a table hold; empty where it has none."""
    words = noise_words(intervals)
    return f"In brackets: {words}." if words else ""


def noise_words(intervals: Iterable[Interval]) -> str:
    """What intervals hold, in words; empty where none has bounds."""
    bounded = [interval for interval in intervals if interval.has_bounds]
    if not bounded:
        return ""
    if not hold_training(bounded):
        return SAMPLING_ONLY
    noise = " and ".join(bounded[0].noise)
    return f"95 % interval, noise of {noise}"


def parts_table(balance: Balance) -> Table:
    """The parts of the weights."""
    columns = {
        "outward (Eq. 5)": balance.part("outward"),
        "inward (Eq. 7)": balance.part("inward"),
        "inter (Eq. 8)": balance.part("inter"),
        "intra (Eq. 10)": balance.part("intra"),
        "all (Eq. 11)": balance.part("all"),
    }
    return _by_unit("Parts of the weights", balance.units, columns)


def measures_table(balance: Balance) -> Table:
    """The three numbers per unit that the parts are computed from."""
    columns = {
        "outward contribution (Eq. 4)": balance.measure("outward"),
        "inward contribution (Eq. 6)": balance.measure("inward"),
        "difficulty (Eq. 9)": balance.measure("difficulty"),
    }
    return _by_unit("What was measured", balance.units, columns)


def _by_unit(title: str, units: Sequence[str], columns: Mapping[str, Sequence[Interval]]) -> Table:
    cells = [_cells(intervals) for intervals in columns.values()]
    rows = tuple(zip(units, *cells, strict=True))
    note = interval_note(chain(*columns.values()))
    return Table(title, ("unit", *columns), rows, note=note)


def _cells(intervals: Sequence[Interval]) -> list[str]:
    return [with_interval(interval) for interval in intervals]


def contribution_table(balance: Balance) -> Table:
    """Contribution, giver by receiver; of many units, the largest and the smallest."""
    if len(balance.units) > MANY:
        between = np.where(np.eye(len(balance.units)), np.nan, balance.contribution)
        table = pairs_table(
            "Contribution of a giver to a receiver, Eq. 3",
            ("giver", "receiver", "contribution"),
            (balance.units, balance.units),
            between,
            lambda i, j: with_interval(balance.contribution_of(i, j)),
        )
        return replace(table, note=f"{table.note} All: `contribution.csv` beside this report.")
    contributions = balance.contributions()
    rows = []
    for giver, intervals in zip(balance.units, contributions, strict=True):
        rows.append((giver, *_cells(intervals)))
    title = "Contribution of a giver (row) to a receiver (column), Eq. 3"
    note = interval_note(chain(*contributions))
    return Table(title, ("giver", *balance.units), tuple(rows), note=note)


def contribution_csv(balance: Balance) -> str:
    """One line per giver and receiver with the interval; what is not known is empty.

    It has a line per pair of units, so that every line costs a join and no call.
    """
    values = balance.contribution
    bounds = np.full((*values.shape, 2), np.nan)
    if balance.intervals is not None:
        bounds = balance.intervals["contribution"]
    numbers = np.concatenate([values[..., None], bounds], axis=-1)
    names = [_quoted(unit) for unit in balance.units]
    lines = ["giver,receiver,contribution,low,high\n"]
    for giver, of_giver in zip(names, numbers, strict=True):
        cells = _number_cells(of_giver)
        lines += [f"{giver},{name},{text}\n" for name, text in zip(names, cells, strict=True)]
    return "".join(lines)


def _quoted(name: str) -> str:
    """A name as a cell of a CSV table with several columns."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([name, ""])
    return text.getvalue().removesuffix(",\n")


def _number_cells(rows: Float[np.ndarray, "row column"]) -> list[str]:
    """The cells of every row with four decimals, joined by commas; NaN is empty."""
    line = ",".join(["%.4f"] * rows.shape[1])
    text = "\n".join([line] * len(rows)) % tuple(rows.ravel().tolist())
    return text.replace("nan", "").split("\n")


def pairs_table(
    title: str,
    header: tuple[str, str, str],
    names: tuple[Sequence[str], Sequence[str]],
    values: Float[np.ndarray, "row column"],
    cell: Callable[[int, int], str],
) -> Table:
    """The largest and the smallest values of a matrix that is too large to be shown.

    Args:
        header: of row names, column names, values.
        names: of rows and columns.
        values: NaN is left out.
        cell: text of the value in a row and a column.
    """
    rows = []
    row_names, column_names = names
    for index in ends(values.ravel()):
        i, j = divmod(index, values.shape[1])
        rows.append((row_names[i], column_names[j], cell(i, j)))
    note = f"The {END} largest and the {END} smallest of {count(np.isfinite(values).sum())} values."
    return Table(title, header, tuple(rows), words=frozenset({1}), note=note)


def scores_table(contents: Contents, matrix: ScoreMatrix) -> Table:
    """The score matrix, with the maximum of each metric and the score of a constant answer.

    The score of each task in the run that saw the large portion of its unit is bold. Of many tasks,
    a row per task has the scores of the first run and of that run alone.
    """
    units = [contents.unit_of(task) for task in matrix.tasks]
    giver = form_runs(form_of(matrix.runs), "real", units).giver
    if len(units) > MANY:
        return _own_scores_table(contents, matrix, [giver[unit] for unit in units])
    rows = []
    for run, scores in zip(matrix.runs, matrix.values, strict=True):
        cells = []
        for unit, score in zip(units, scores, strict=True):
            cell = _score_cell(score)
            cells.append(Strong(cell) if giver[unit] == run else cell)
        rows.append((run, *cells))
    footer = _metric_rows(contents, matrix.tasks)
    return Table(
        "Score matrix: run (row) by task (column), on the validation sets; higher is better",
        ("run", *matrix.tasks),
        (*rows, *footer),
        footer=len(footer),
    )


def _own_scores_table(contents: Contents, matrix: ScoreMatrix, own_runs: Sequence[str]) -> Table:
    """One row per task instead of one per run; `own_runs` names the run of each task."""
    rows_of_runs = {run: i for i, run in enumerate(matrix.runs)}
    rows = []
    for j, (task, run) in enumerate(zip(matrix.tasks, own_runs, strict=True)):
        first = _score_cell(matrix.values[0, j])
        score = DASH
        if run in rows_of_runs:
            score = _score_cell(matrix.values[rows_of_runs[run], j])
        rows.append((task, first, Strong(score)))
    footer = _metric_rows(contents, matrix.tasks)
    header = ["task", matrix.runs[0], "own run"]
    if footer:
        header += [name for name, *_ in footer]
        columns = [cells for _, *cells in footer]
        metrics = zip(*columns, strict=True)
        of_scores, rows = rows, []
        for row, cells in zip(of_scores, metrics, strict=True):
            rows.append((*row, *cells))
    return Table(
        "Scores of every task in the first run and in its own; higher is better",
        tuple(header),
        tuple(rows),
        note="The whole matrix, run by task: `scores.csv` in the run directory.",
    )


def _score_cell(score: float) -> str:
    return DASH if np.isnan(score) else number(score)


def _metric_rows(contents: Contents, tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """Facts about the metric of every task; none where no probe has scores yet."""
    columns = [_metric_cells(contents, task) for task in tasks]
    if not any(columns):
        return []
    names = ("best constant answer", "maximum", "metric", "samples")
    unknown = (DASH,) * len(names)
    cells = [column or unknown for column in columns]
    return list(zip(names, *cells, strict=True))


def _metric_cells(contents: Contents, task: str) -> tuple[str, ...] | None:
    for run in reversed(contents.probes):
        scores = run.scores.get((task, "validation"))
        if scores is None:
            continue
        name = contents.metric_of(scores)
        if name not in scores.metrics:
            return None
        metric = scores.metrics[name]
        maximum = f"{metric.maximum:g}"
        samples = count(len(scores.clusters))
        return _constant(metric), maximum, name, samples
    return None


def _constant(metric: MetricScores) -> str:
    """Score of the best constant answer, or a dash where it is not known."""
    if metric.constant is None:
        return DASH
    return number(metric.constant.score)
