"""Figures as pure functions: numbers in, inline SVG out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from cotbal.report.crowds import ends
from cotbal.report.formatting import NOT_IDENTIFIED, number, with_interval
from cotbal.report.svg import element, label, shortened, tick_text, ticks, width
from cotbal.scores.interval import Interval

LETTERS = 18  # longest label
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


def longest(names: Sequence[str], letters: int = LETTERS) -> float:
    """Width of the widest of these names, shortened, in pixels."""
    widths = []
    for name in names:
        shown = shortened(name, letters)
        widths.append(width(shown))
    return max(widths)


@dataclass(frozen=True)
class Point:
    """One row of a dot plot or bar plot.

    Attributes:
        interval: a value of NaN is not identified.
        observed: marked by a vertical line in a dot plot; NaN where there is none.
        others: values whose range is a band behind the dot.
        is_summary: drawn below the others, whatever their number.
    """

    name: str
    interval: Interval
    observed: float = math.nan
    others: tuple[float, ...] = ()
    is_summary: bool = False


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


def _shown(points: Sequence[Point]) -> list[Point]:
    """Of many points both ends, and those that summarise."""
    rows = [point for point in points if not point.is_summary]
    values = [point.interval.value for point in rows]
    chosen = [rows[i] for i in ends(values)]
    return chosen + [point for point in points if point.is_summary]


class _Plot:
    """Rows of marks between grid lines.

    Labels hang out of the plot on both sides (CSS leaves the room), and positions are percentages:
    so the plot fits any width without scaling its letters.
    """

    def __init__(self, points: Sequence[Point], axis: Axis) -> None:
        self.points = _shown(points)
        self.hidden = len(points) - len(self.points)
        self.axis = axis
        numbers = [axis.reference]
        for point in self.points:
            interval = point.interval
            numbers += [interval.value, interval.low, interval.high, point.observed, *point.others]
        known = [value for value in numbers if not np.isnan(value)]
        low = min(known)
        high = max(known)
        if low == high:  # every weight is 1: the line is in the middle
            low -= 0.5
            high += 0.5
        margin = 0.04 * (high - low)
        self.low = low if low == axis.reference else low - margin
        self.high = high if high == axis.reference else high + margin

    def x(self, value: float) -> str:
        """Position of a value, in percent of the width."""
        return self.length(value - self.low)

    def length(self, distance: float) -> str:
        """Length of a difference of two values, in percent of the width."""
        whole = self.high - self.low
        percent = 100 * distance / whole
        return f"{percent:.2f}%"

    def draw(self, mark: Callable[[_Plot, Point, float], Markup]) -> Markup:
        """The plot, with the values drawn by `mark`."""
        axis = self.axis
        height = len(self.points) * ROW
        below = [] if not self.hidden else [self.remark(height + 38)]
        marks = []
        names = []
        values = []
        for i, point in enumerate(self.points):
            y = (i + 0.5) * ROW
            known = not np.isnan(point.interval.value)
            marks.append(mark(self, point, y) if known else _unknown(point, y))
            names.append(label(point.name, LETTERS, x=-12, y=y, class_="end middle"))
            value = self.value(point)
            values.append(element("text", value, x="100%", dx=12, y=y, class_="middle"))
        widest = longest([point.name for point in self.points])
        left = widest + 14
        right = 64 + 8 * len(axis.suffix)
        return element(
            "svg",
            HATCH,
            *self.grid(height),
            *marks,
            *names,
            *values,
            *below,
            role="img",
            aria_label=axis.aria,
            height=height + (46 if self.hidden else 26),
            class_="plot",
            style=f"--left:{left:.0f}px;--right:{right}px",
        )

    def remark(self, y: int) -> Markup:
        """What a plot of many values leaves out."""
        text = f"The largest and the smallest values; {self.hidden} between them are not drawn."
        return element("text", text, x=0, y=y, class_="muted small")

    def grid(self, height: int) -> list[Markup]:
        """Vertical lines with their values below, and the line of the reference."""
        drawn = []
        for tick in ticks(self.low, self.high, about=4):
            x = self.x(tick)
            text = tick_text(tick) + self.axis.suffix
            drawn.append(element("line", x1=x, x2=x, y1=0, y2=height, class_="grid"))
            drawn.append(element("text", text, x=x, y=height + 18, class_="center muted small"))
        x = self.x(self.axis.reference)
        drawn.append(element("line", x1=x, x2=x, y1=0, y2=height, class_="reference"))
        return drawn

    def value(self, point: Point) -> str:
        """The value without its interval, in a few letters."""
        axis = self.axis
        value = point.interval.value
        if np.isnan(value):
            return "n/i"
        return number(value, axis.digits, axis.signed) + axis.suffix

    def title(self, point: Point) -> Markup:
        """What is shown on hover: the value with its interval."""
        axis = self.axis
        text = with_interval(point.interval, axis.digits, axis.signed)
        return element("title", f"{point.name}: {text}{axis.suffix}")

    def whisker(self, interval: Interval, y: float) -> Markup:
        """The interval; with ends where it holds the noise of training."""
        if not interval.has_bounds:
            return Markup("")
        low = self.x(interval.low)
        high = self.x(interval.high)
        if not interval.holds_training:
            return element("line", x1=low, x2=high, y1=y, y2=y, class_="whisker samples")
        above = y - 4
        below = y + 4
        span = element("line", x1=low, x2=high, y1=y, y2=y, class_="whisker")
        left_end = element("line", x1=low, x2=low, y1=above, y2=below, class_="whisker")
        right_end = element("line", x1=high, x2=high, y1=above, y2=below, class_="whisker")
        return span + left_end + right_end


def _dot(plot: _Plot, point: Point, y: float) -> Markup:
    interval = point.interval
    look = "dot" if interval.differs(plot.axis.reference) else "dot hollow"
    x = plot.x(interval.value)
    dot = element("circle", cx=x, cy=y, r=5, class_=look)
    whisker = plot.whisker(interval, y)
    observed = others = Markup("")
    if not np.isnan(point.observed):
        at = plot.x(point.observed)
        observed = element("line", x1=at, x2=at, y1=y - 9, y2=y + 9, class_="observed")
    if point.others:
        low = min(point.others)
        length = plot.length(max(point.others) - low)
        box = {"x": plot.x(low), "y": y - 8, "width": length, "height": 16, "rx": 2}
        others = element("rect", **box, class_="others")
    return element("g", others, whisker, dot, observed, plot.title(point), class_="mark")


def _bar(plot: _Plot, point: Point, y: float) -> Markup:
    interval = point.interval
    start, stop = sorted((plot.axis.reference, interval.value))
    x = plot.x(start)
    length = plot.length(stop - start)
    bar = element("rect", x=x, y=y - 8, width=length, height=16, rx=2, class_="bar")
    whisker = plot.whisker(interval, y)
    return element("g", bar, whisker, plot.title(point), class_="mark")


def _unknown(point: Point, y: float) -> Markup:
    band = element("rect", x=0, y=y - 8, width="100%", height=16, fill="url(#hatch)")
    title = element("title", f"{point.name}: {NOT_IDENTIFIED}")
    return element("g", band, title, class_="mark")
