"""What a report shows of score against training amount: a panel, a row and a sentence for every
task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from markupsafe import Markup

from cotbal.report.amounts import AmountCurves, Measured, TaskCurve
from cotbal.report.formatting import bracket, count, number, with_interval
from cotbal.report.panels import Curve, Interval, Look, Scale, panel
from cotbal.report.tables import DASH, Table

SHIFT = 2.5  # pixels that the two lines of a panel are moved apart by


def panels(found: AmountCurves) -> list[Markup]:
    """The paper's Fig. 1b, one panel a task; the amounts lie on a logarithmic scale of base 2."""
    return [_panel(found, each) for each in found.tasks if each.mixture or each.alone]


def _panel(found: AmountCurves, each: TaskCurve) -> Markup:
    marks = tuple(
        (math.log2(a), amount_text(a), _short(each.records.get(a))) for a in found.amounts
    )
    shift = SHIFT if each.mixture and each.alone else 0.0
    drawn = [
        _curve("all tasks together", "ours", each.mixture, -shift),
        _curve("this task alone", "baseline", each.alone, shift),
    ]
    scale = Scale(marks, each.maximum)
    return panel(
        each.task, "Validation score against training amount", [c for c in drawn if c.points], scale
    )


def _curve(name: str, look: Look, scores: Mapping[Fraction, Measured], shift: float) -> Curve:
    ordered = sorted(scores.items())
    points = tuple((math.log2(amount), score.value) for amount, score in ordered)
    intervals = tuple(Interval(score.low, score.high) for _, score in ordered)
    return Curve(name, look, points, intervals=intervals, shift=shift)


def amount_text(amount: Fraction) -> str:
    """`1/8`; an amount that nobody would write as a fraction has three digits."""
    return str(amount) if amount.denominator <= 10_000 else f"{float(amount):.3g}"


def _short(records: int | None) -> str:
    """Records below a mark, in a few letters."""
    if records is None or records < 10_000:
        return "" if records is None else str(records)
    return f"{records / 1000:.0f}k" if records < 999_500 else f"{records / 1e6:.3g}M"


def tables(found: AmountCurves) -> list[Table]:
    """The same numbers: scores, and the training records behind every amount."""
    shown = [_scores(found)]
    if any(each.records for each in found.tasks):
        shown.append(_records(found))
    return shown


def _scores(found: AmountCurves) -> Table:
    rows = []
    for each in found.tasks:
        if each.mixture:
            rows.append((each.task, each.metric, *_cells(found, each.mixture), _reached(each)))
        if each.alone:
            rows.append((f"{each.task}, alone", each.metric, *_cells(found, each.alone), ""))
    several = len(found.amounts) > 1
    header = ("task", "metric", *map(amount_text, found.amounts), "smallest, % of largest")
    seeds = f", means over {len(found.matrices)} seeds" if len(found.matrices) > 1 else ""
    title = (
        f"Validation score of every task (row) by training amount (column), EW{seeds}; higher is"
        " better"
    )
    cut = len(header) - (not several)
    return Table(title, header[:cut], tuple(row[:cut] for row in rows), words=frozenset({1}))


def _cells(found: AmountCurves, scores: Mapping[Fraction, Measured]) -> list[str]:
    measured = [scores.get(amount) for amount in found.amounts]
    return [
        DASH if score is None else with_interval(score.value, score.bounds) for score in measured
    ]


def _reached(each: TaskCurve) -> str:
    return (
        DASH if each.reached is None else f"{_percent(each.reached.value)} {_range(each.reached)}"
    )


def _percent(share: float) -> str:
    return number(100 * share, 0)


def _range(share: Measured) -> str:
    return bracket(100 * share.low, 100 * share.high, 0)


def _records(found: AmountCurves) -> Table:
    rows = tuple(
        (each.task, *(count(each.records[a]) if a in each.records else DASH for a in found.amounts))
        for each in found.tasks
    )
    return Table(
        "Training records of every task (row) by amount (column)",
        ("task", *map(amount_text, found.amounts)),
        rows,
    )


def sentences(found: AmountCurves) -> list[str]:
    """For every task the share of its final score that the smallest amount reaches already."""
    return [_sentence(each) for each in found.tasks if len(each.mixture) > 1]


def _sentence(each: TaskCurve) -> str:
    small, large = min(each.mixture), max(each.mixture)
    whole = "all of it" if large == 1 else f"{amount_text(large)} of it"
    if each.reached is None:
        return (
            f"{each.task}: no share can be given, because its score with the largest amount cannot"
            " be told from 0."
        )
    records = f" ({count(each.records[small])} records)" if small in each.records else ""
    return (
        f"{each.task}: {amount_text(small)} of the data{records} reaches"
        f" {_percent(each.reached.value)} % {_range(each.reached)} of the score that {whole}"
        " reaches."
    )
