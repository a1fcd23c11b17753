"""How a report shows score against the fraction of the training data: a panel, a row and a sentence
per task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from markupsafe import Markup

from cotbal.report.curves import DataCurves, TaskCurve
from cotbal.report.formatting import DASH, bracket, count, number, with_interval
from cotbal.report.line_plots import Line, Look, Scale, line_plot
from cotbal.report.tables import Table, interval_note
from cotbal.scores.interval import Interval

LEARN = "To measure that: `cotbal curve RECIPE --seeds 0,1,2`."
SHIFT = 2.5  # pixels between the middle and either line of a panel


def panels(curves: DataCurves) -> list[Markup]:
    """The paper's Fig. 1b, one panel per task; the scale of fractions is logarithmic (base 2)."""
    return [_panel(curves, curve) for curve in curves.tasks if curve.mixture or curve.alone]


def _panel(curves: DataCurves, curve: TaskCurve) -> Markup:
    marks = []
    for fraction in curves.fractions:
        position = math.log2(fraction)
        records = _short(curve.records.get(fraction))
        marks.append((position, fraction_text(fraction), records))
    shift = SHIFT if curve.mixture and curve.alone else 0.0
    lines = []
    if curve.mixture:
        lines.append(_line("all tasks together", "ours", curve.mixture, -shift))
    if curve.alone:
        lines.append(_line("this task alone", "baseline", curve.alone, shift))
    quantity = "Validation score against the fraction of the training data"
    scale = Scale(tuple(marks), curve.maximum)
    return line_plot(curve.task, quantity, lines, scale)


def _line(name: str, look: Look, scores: Mapping[Fraction, Interval], shift: float) -> Line:
    points = []
    intervals = []
    for fraction, score in sorted(scores.items()):
        position = math.log2(fraction)
        points.append((position, score.value))
        intervals.append(score)
    return Line(name, look, tuple(points), intervals=tuple(intervals), shift=shift)


def fraction_text(fraction: Fraction) -> str:
    """`1/8`; a fraction with a large denominator has three digits."""
    if fraction.denominator > 10_000:
        return f"{float(fraction):.3g}"
    return str(fraction)


def _short(records: int | None) -> str:
    """Records below a mark, in a few letters."""
    if records is None:
        return ""
    if records < 10_000:
        return str(records)
    if records < 999_500:
        thousands = records / 1000
        return f"{thousands:.0f}k"
    millions = records / 1e6
    return f"{millions:.3g}M"


def tables(curves: DataCurves) -> list[Table]:
    """The same numbers: scores, and the training records behind every fraction."""
    if not any(curve.records for curve in curves.tasks):
        return [_scores(curves)]
    return [_scores(curves), _records(curves)]


def _scores(curves: DataCurves) -> Table:
    has_shares = len(curves.fractions) > 1
    header = ["task", "metric", *map(fraction_text, curves.fractions)]
    if has_shares:
        header.append("smallest, % of largest")
    rows: list[tuple[str, ...]] = []
    for curve in curves.tasks:
        if curve.mixture:
            cells = _cells(curves, curve.mixture)
            share = [_share(curve)] if has_shares else []
            rows.append((curve.task, curve.metric, *cells, *share))
        if curve.alone:
            cells = _cells(curves, curve.alone)
            no_share = [""] if has_shares else []
            rows.append((f"{curve.task}, alone", curve.metric, *cells, *no_share))
    count_of_seeds = len(curves.matrices)
    seeds = f", means over {count_of_seeds} seeds" if count_of_seeds > 1 else ""
    title = (
        "Validation score of every task (row) by fraction of the training data (column),"
        f" EW{seeds}; higher is better"
    )
    note = interval_note(intervals(curves))
    return Table(title, tuple(header), tuple(rows), words=frozenset({1}), note=note)


def intervals(curves: DataCurves) -> list[Interval]:
    """Every score that a panel shows."""
    shown: list[Interval] = []
    for curve in curves.tasks:
        shown += curve.mixture.values()
        shown += curve.alone.values()
    return shown


def _cells(curves: DataCurves, scores: Mapping[Fraction, Interval]) -> list[str]:
    cells = []
    for fraction in curves.fractions:
        score = scores.get(fraction)
        cells.append(DASH if score is None else with_interval(score))
    return cells


def _share(curve: TaskCurve) -> str:
    if curve.reached is None:
        return DASH
    percent = curve.reached.times(100)
    return with_interval(percent, digits=0)


def _records(curves: DataCurves) -> Table:
    rows = []
    for curve in curves.tasks:
        records = [curve.records.get(fraction) for fraction in curves.fractions]
        rows.append((curve.task, *map(count, records)))
    title = "Training records of every task (row) by fraction (column)"
    header = ("task", *map(fraction_text, curves.fractions))
    return Table(title, header, tuple(rows))


def sentences(curves: DataCurves) -> list[str]:
    """For every task the share of its final score that the smallest fraction already reaches."""
    return [_sentence(curve) for curve in curves.tasks if len(curve.mixture) > 1]


def _sentence(curve: TaskCurve) -> str:
    if curve.reached is None:
        return (
            f"{curve.task}: no share can be given, because its score with the largest fraction may"
            " be 0."
        )
    smallest = min(curve.mixture)
    largest = max(curve.mixture)
    whole = "all of it" if largest == 1 else f"{fraction_text(largest)} of it"
    records = ""
    if smallest in curve.records:
        shown = count(curve.records[smallest])
        records = f" ({shown} records)"
    percent = curve.reached.times(100)
    reached = number(percent.value, digits=0)
    bounds = bracket(percent, digits=0)
    return (
        f"{curve.task}: {fraction_text(smallest)} of the data{records} reaches"
        f" {reached} % {bounds} of the score that {whole} reaches."
    )
