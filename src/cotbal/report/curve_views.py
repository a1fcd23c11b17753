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
    marks = tuple(
        (math.log2(fraction), fraction_text(fraction), _short(curve.records.get(fraction)))
        for fraction in curves.fractions
    )
    shift = SHIFT if curve.mixture and curve.alone else 0.0
    lines = []
    if curve.mixture:
        lines.append(_line("all tasks together", "ours", curve.mixture, -shift))
    if curve.alone:
        lines.append(_line("this task alone", "baseline", curve.alone, shift))
    quantity = "Validation score against the fraction of the training data"
    return line_plot(curve.task, quantity, lines, Scale(marks, curve.maximum))


def _line(name: str, look: Look, scores: Mapping[Fraction, Interval], shift: float) -> Line:
    ordered = sorted(scores.items())
    points = tuple((math.log2(fraction), score.value) for fraction, score in ordered)
    return Line(name, look, points, intervals=tuple(score for _, score in ordered), shift=shift)


def fraction_text(fraction: Fraction) -> str:
    """`1/8`; a fraction with a large denominator has three digits."""
    return str(fraction) if fraction.denominator <= 10_000 else f"{float(fraction):.3g}"


def _short(records: int | None) -> str:
    """Records below a mark, in a few letters."""
    if records is None:
        return ""
    if records < 10_000:
        return str(records)
    return f"{records / 1000:.0f}k" if records < 999_500 else f"{records / 1e6:.3g}M"


def tables(curves: DataCurves) -> list[Table]:
    """The same numbers: scores, and the training records behind every fraction."""
    if not any(curve.records for curve in curves.tasks):
        return [_scores(curves)]
    return [_scores(curves), _records(curves)]


def _scores(curves: DataCurves) -> Table:
    rows = []
    for curve in curves.tasks:
        if curve.mixture:
            rows.append([curve.task, curve.metric, *_cells(curves, curve.mixture), _share(curve)])
        if curve.alone:
            rows.append([f"{curve.task}, alone", curve.metric, *_cells(curves, curve.alone), ""])
    header = ["task", "metric", *map(fraction_text, curves.fractions), "smallest, % of largest"]
    if len(curves.fractions) == 1:
        header, rows = header[:-1], [row[:-1] for row in rows]
    seeds = f", means over {len(curves.matrices)} seeds" if len(curves.matrices) > 1 else ""
    title = (
        "Validation score of every task (row) by fraction of the training data (column),"
        f" EW{seeds}; higher is better"
    )
    note = interval_note(intervals(curves))
    return Table(title, tuple(header), tuple(map(tuple, rows)), words=frozenset({1}), note=note)


def intervals(curves: DataCurves) -> list[Interval]:
    """Every score that a panel shows."""
    return [s for curve in curves.tasks for s in (*curve.mixture.values(), *curve.alone.values())]


def _cells(curves: DataCurves, scores: Mapping[Fraction, Interval]) -> list[str]:
    return [
        with_interval(scores[fraction]) if fraction in scores else DASH
        for fraction in curves.fractions
    ]


def _share(curve: TaskCurve) -> str:
    return DASH if curve.reached is None else with_interval(curve.reached.times(100), 0)


def _records(curves: DataCurves) -> Table:
    rows = []
    for curve in curves.tasks:
        rows.append((curve.task, *map(count, map(curve.records.get, curves.fractions))))
    return Table(
        "Training records of every task (row) by fraction (column)",
        ("task", *map(fraction_text, curves.fractions)),
        tuple(rows),
    )


def sentences(curves: DataCurves) -> list[str]:
    """For every task the share of its final score that the smallest fraction already reaches."""
    return [_sentence(curve) for curve in curves.tasks if len(curve.mixture) > 1]


def _sentence(curve: TaskCurve) -> str:
    if curve.reached is None:
        return (
            f"{curve.task}: no share can be given, because its score with the largest fraction may"
            " be 0."
        )
    small, large = min(curve.mixture), max(curve.mixture)
    whole = "all of it" if large == 1 else f"{fraction_text(large)} of it"
    records = f" ({count(curve.records[small])} records)" if small in curve.records else ""
    reached = curve.reached.times(100)
    return (
        f"{curve.task}: {fraction_text(small)} of the data{records} reaches"
        f" {number(reached.value, 0)} % {bracket(reached, 0)} of the score that {whole} reaches."
    )
