"""Figures as pure functions: numbers in, inline SVG out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from cotbal.report.formatting import NOT_IDENTIFIED, number, with_interval
from cotbal.report.svg import element, label, shortened, tick_text, ticks, width
from cotbal.scores.interval import Interval

LETTERS = 18  # longest label
STRONGEST = 0.55  # opacity of the strongest cell; keeps its text readable in both colour schemes
CROWDED = 9  # units; more get smaller cells
ROW = 34  # pixels per row of a dot plot or bar plot

HATCH = element(
    "defs",
    element(
        "pattern",
        element("path", d="M0 7L7 0", class_="hatch-line"),
        id="hatch",
        width=7,
        height=7,
        patternUnits="userSpaceOnUse",
    ),
)
Cells = Sequence[Sequence[Interval]]  # by giver and receiver


def heat_map(units: Sequence[str], cells: Cells) -> Markup:
    """Contribution `C[giver, receiver]` (Eq. 3), the paper's Fig. 2: one row per giver, one column
    per receiver.
    """
    crowded, size = len(units) > CROWDED, len(units)
    wide, high, letters = (41, 33, 14) if crowded else (58, 38, LETTERS)
    longest, limit = _longest(units, letters), limit_of(cells)
    left, top = 20 + longest, 34 + 0.72 * longest
    parts = [
        element("text", "receiver", x=left, y=12, class_="muted"),
        element("text", "giver", x=left - 8, y=top - 8, class_="muted end"),
    ]
    for i, unit in enumerate(units):
        y = top + (i + 0.5) * high
        parts.append(label(unit, letters, x=left - 8, y=y, class_="end middle"))
    for j, unit in enumerate(units):
        moved = f"translate({left + (j + 0.5) * wide + 4:.1f} {top - 8:.1f}) rotate(-45)"
        parts.append(label(unit, letters, transform=moved))
    for i, j in np.ndindex(size, size):
        parts.append(
            element(
                "g",
                _cell(cells[i][j], limit, i == j, (wide, high)),
                element("title", _cell_title(units[i], units[j], cells[i][j])),
                transform=f"translate({left + j * wide:.1f} {top + i * high:.1f})",
                class_="cell",
            )
        )
    full_width = left + size * wide + 0.72 * longest - 0.3 * wide
    full_height = top + size * high + 2
    return element(
        "svg",
        HATCH,
        *parts,
        role="img",
        aria_label=f"Heat map of the contribution of {size} givers to {size} receivers",
        width=round(full_width),
        height=round(full_height),
        viewBox=f"0 0 {full_width:.0f} {full_height:.0f}",
        class_="fixed crowded" if crowded else "fixed",
    )


def _longest(names: Sequence[str], letters: int = LETTERS) -> float:
    return max(width(shortened(name, letters)) for name in names)


def limit_of(cells: Cells) -> float:
    """End of the symmetric colour scale: the strongest contribution between two units, at most 1,
    at least 0.1.
    """
    strongest = 0.1
    for i, j in np.ndindex(len(cells), len(cells)):
        if i != j and not np.isnan(cells[i][j].value):
            strongest = max(strongest, abs(cells[i][j].value))
    return min(strongest, 1.0)


def _cell(cell: Interval, limit: float, is_diagonal: bool, size: tuple[int, int]) -> Markup:
    wide, high = size
    box = {"width": wide - 2, "height": high - 2, "rx": 3}
    middle = {"x": wide / 2 - 1, "y": high / 2 - 1}
    surface = element("rect", **box, class_="surface")
    if np.isnan(cell.value):
        hatched = element("rect", **box, fill="url(#hatch)")
        return surface + hatched + element("text", "n/i", **middle, class_="center middle muted")
    text = number(cell.value, 2)
    if is_diagonal:
        muted = element("text", text, **middle, class_="center middle muted")
        return element("rect", **box, class_="own") + muted
    strength = STRONGEST * min(1.0, abs(cell.value) / limit)
    sign = "positive" if cell.value >= 0 else "negative"
    weight = "center middle strong" if cell.differs() else "center middle"
    return (
        surface
        + element("rect", **box, fill_opacity=float(strength), class_=sign)
        + element("text", text, **middle, class_=weight)
    )


def _cell_title(giver: str, receiver: str, cell: Interval) -> str:
    if giver != receiver:
        return f"{giver} \N{RIGHTWARDS ARROW} {receiver}: {with_interval(cell)}"
    if np.isnan(cell.value):
        return f"{giver}: {NOT_IDENTIFIED}"
    return f"{giver} to itself: 1 by definition"


@dataclass(frozen=True)
class Point:
    """One row of a dot plot or bar plot; a value of NaN is not identified."""

    name: str
    interval: Interval


@dataclass(frozen=True)
class Axis:
    """The horizontal axis of a dot plot or bar plot.

    Attributes:
        aria: what is shown, for screen readers.
        reference: the line to compare with.
        digits, signed, suffix: how values are written.
    """

    aria: str
    reference: float
    digits: int = 3
    signed: bool = False
    suffix: str = ""


def dots(points: Sequence[Point], axis: Axis) -> Markup:
    """Dots with whiskers; a dot is filled where it differs significantly from the reference."""
    return _Plot(points, axis).draw(_dot)


def bars(points: Sequence[Point], axis: Axis) -> Markup:
    """Bars from the reference, with whiskers."""
    return _Plot(points, axis).draw(_bar)


class _Plot:
    """Rows of marks between grid lines.

    Labels hang out of the plot on both sides (CSS leaves the room), and positions are percentages:
    so the plot fits any width without scaling its letters.
    """

    def __init__(self, points: Sequence[Point], axis: Axis) -> None:
        self.points, self.axis = points, axis
        numbers = [axis.reference]
        for point in points:
            interval = point.interval
            numbers += [interval.value, interval.low, interval.high]
        known = [value for value in numbers if not np.isnan(value)]
        low, high = min(known), max(known)
        if low == high:  # every weight is 1: the line is in the middle
            low, high = low - 0.5, high + 0.5
        margin = 0.04 * (high - low)
        self.low = low if low == axis.reference else low - margin
        self.high = high if high == axis.reference else high + margin

    def x(self, value: float) -> str:
        return f"{self.share(value - self.low):.2f}%"

    def share(self, distance: float) -> float:
        return 100 * distance / (self.high - self.low)

    def draw(self, mark: Callable[[_Plot, Point, float], Markup]) -> Markup:
        axis, height = self.axis, len(self.points) * ROW
        parts = []
        for tick in ticks(self.low, self.high, about=4):
            x, text = self.x(tick), tick_text(tick) + axis.suffix
            parts += [
                element("line", x1=x, x2=x, y1=0, y2=height, class_="grid"),
                element("text", text, x=x, y=height + 18, class_="center muted small"),
            ]
        x = self.x(axis.reference)
        parts.append(element("line", x1=x, x2=x, y1=0, y2=height, class_="reference"))
        rows = [(point, (i + 0.5) * ROW) for i, point in enumerate(self.points)]
        for point, y in rows:
            known = not np.isnan(point.interval.value)
            parts.append(mark(self, point, y) if known else _unknown(point, y))
        for point, y in rows:
            parts.append(label(point.name, LETTERS, x=-12, y=y, class_="end middle"))
        for point, y in rows:
            parts.append(element("text", self.value(point), x="100%", dx=12, y=y, class_="middle"))
        left = _longest([point.name for point in self.points]) + 14
        right = 64 + 8 * len(axis.suffix)
        return element(
            "svg",
            HATCH,
            *parts,
            role="img",
            aria_label=axis.aria,
            height=height + 26,
            class_="plot",
            style=f"--left:{left:.0f}px;--right:{right}px",
        )

    def value(self, point: Point) -> str:
        if np.isnan(point.interval.value):
            return "n/i"
        return number(point.interval.value, self.axis.digits, self.axis.signed) + self.axis.suffix

    def title(self, point: Point) -> Markup:
        text = with_interval(point.interval, self.axis.digits, self.axis.signed)
        return element("title", f"{point.name}: {text}{self.axis.suffix}")

    def whisker(self, interval: Interval, y: float) -> Markup:
        if not interval.has_bounds:
            return Markup("")
        low, high = self.x(interval.low), self.x(interval.high)
        if not interval.holds_training:
            return element("line", x1=low, x2=high, y1=y, y2=y, class_="whisker samples")
        return Markup("").join(
            [
                element("line", x1=low, x2=high, y1=y, y2=y, class_="whisker"),
                element("line", x1=low, x2=low, y1=y - 4, y2=y + 4, class_="whisker"),
                element("line", x1=high, x2=high, y1=y - 4, y2=y + 4, class_="whisker"),
            ]
        )


def _dot(plot: _Plot, point: Point, y: float) -> Markup:
    interval = point.interval
    look = "dot" if interval.differs(plot.axis.reference) else "dot hollow"
    mark = element("circle", cx=plot.x(interval.value), cy=y, r=5, class_=look)
    return element("g", plot.whisker(interval, y), mark, plot.title(point), class_="mark")


def _bar(plot: _Plot, point: Point, y: float) -> Markup:
    interval = point.interval
    start, stop = sorted((plot.axis.reference, interval.value))
    length = f"{plot.share(stop - start):.2f}%"
    bar = element("rect", x=plot.x(start), y=y - 8, width=length, height=16, rx=2, class_="bar")
    return element("g", bar, plot.whisker(interval, y), plot.title(point), class_="mark")


def _unknown(point: Point, y: float) -> Markup:
    band = element("rect", x=0, y=y - 8, width="100%", height=16, fill="url(#hatch)")
    return element("g", band, element("title", f"{point.name}: {NOT_IDENTIFIED}"), class_="mark")
