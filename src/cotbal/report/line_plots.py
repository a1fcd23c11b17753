"""Small line plots, side by side: against the epoch, or against a scale of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup

from cotbal.report.formatting import number, with_interval
from cotbal.report.svg import element, label, tick_text, ticks
from cotbal.scores.interval import Interval

WIDTH, HEIGHT = 280, 170
Look = Literal["other", "baseline", "ours"]
LAYERS: tuple[Look, ...] = ("other", "baseline", "ours")  # from back to front
LEFT, RIGHT, TOP, BOTTOM = 38, 8, 26, 24
SECOND_LINE = 14  # pixels of a second line of text below
HEADROOM = 1.05  # end of the vertical axis, in units of the largest value
APART = 38.0  # pixels between texts below, so that they never overlap


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        name: of the run.
        look: a class of the style sheet.
        points: (epoch, value), or (position on the scale, value).
        elbow: (epoch, value) to mark, see `cotbal.jobs.elbow`.
        intervals: one per point of a line on a scale; each such point gets a dot.
        shift: pixels to the right, so that intervals at one position do not overlap.
    """

    name: str
    look: Look
    points: tuple[tuple[float, float], ...]
    elbow: tuple[float, float] | None = None
    intervals: tuple[Interval, ...] = ()
    shift: float = 0.0


@dataclass(frozen=True)
class Scale:
    """The horizontal axis where it does not show epochs.

    Attributes:
        marks: (position, text, second text), ascending.
        limit: the largest possible value; intervals are cut off there.
    """

    marks: tuple[tuple[float, str, str], ...]
    limit: float


def line_plot(
    title: str, quantity: str, lines: Sequence[Line], scale: Scale | None = None
) -> Markup:
    """One plot; `quantity` names the values for screen readers."""
    frame = _frame(lines, scale)
    ordered = sorted(lines, key=lambda line: LAYERS.index(line.look))
    parts = [label(title, 34, x=LEFT, y=14, class_="strong"), *frame.grid()]
    for line in ordered:
        parts.append(frame.polyline(line))
    for line in ordered:
        if line.elbow is not None:
            parts.append(frame.elbow(line))
    for line in ordered:
        for i in range(len(line.intervals)):
            parts.append(frame.dot(line, i))
    last_values = []
    for line in ordered:
        _, value = line.points[-1]
        last_values.append(f"{line.name} {number(value, 2)}")
    last = ", ".join(last_values)
    return element(
        "svg",
        *parts,
        role="img",
        aria_label=f"{quantity} of {title}, {len(lines)} curves; last values: {last}",
        viewBox=f"0 0 {WIDTH} {frame.height}",
        class_="panel",
    )


def _frame(lines: Sequence[Line], scale: Scale | None) -> _Frame:
    points = [point for line in lines for point in line.points]
    positions, values = zip(*points, strict=True)
    low = min(0.0, *values)
    high = HEADROOM * max(0.0, *values)
    if scale is None:
        return _epoch_frame(max(positions), low, high)
    for line in lines:
        for interval in line.intervals:
            # `max` keeps its first argument where the bound is NaN.
            high = max(high, HEADROOM * np.minimum(interval.high, scale.limit))
    first, *_ = scale.marks[0]
    last, *_ = scale.marks[-1]
    margin = 0.06 * (last - first) or 1.0
    return _Frame(
        first=first - margin,
        last=last + margin,
        low=low,
        high=high if high > low else 1.0,
        marks=scale.marks,
        limit=scale.limit,
    )


def _epoch_frame(last_epoch: float, low: float, high: float) -> _Frame:
    last = last_epoch or 1.0
    marks = []
    for tick in ticks(0, last, 3):
        marks.append((tick, tick_text(tick), ""))
    return _Frame(
        first=0.0,
        last=last,
        low=low,
        high=high if high > low else 1.0,
        marks=tuple(marks),
    )


@dataclass(frozen=True)
class _Frame:
    """From (position, value) to pixels; `limit` is None where the axis shows epochs."""

    first: float
    last: float
    low: float
    high: float
    marks: tuple[tuple[float, str, str], ...]
    limit: float | None = None

    @property
    def bottom(self) -> int:
        return HEIGHT - BOTTOM

    @property
    def height(self) -> int:
        return HEIGHT if self.limit is None else HEIGHT + SECOND_LINE

    def x(self, position: float) -> float:
        pixels = WIDTH - LEFT - RIGHT
        distance = position - self.first
        length = self.last - self.first
        return LEFT + pixels * distance / length

    def y(self, value: float) -> float:
        pixels = self.bottom - TOP
        distance = value - self.low
        length = self.high - self.low
        return self.bottom - pixels * distance / length

    def polyline(self, line: Line) -> Markup:
        _, last = line.points[-1]
        title = element("title", f"{line.name}: last {number(last)}")
        points = []
        for position, value in line.points:
            x = self.x(position) + line.shift
            y = self.y(value)
            points.append(f"{x:.1f},{y:.1f}")
        joined = " ".join(points)
        return element("polyline", title, points=joined, class_=f"curve {line.look}")

    def elbow(self, line: Line) -> Markup:
        assert line.elbow is not None
        epoch, value = line.elbow
        title = element("title", f"elbow of {line.name} at {epoch:.3g} of the data")
        x = self.x(epoch)
        y = self.y(value)
        return element("circle", title, cx=x, cy=y, r=4, class_="bend")

    def dot(self, line: Line, i: int) -> Markup:
        """A point with its interval."""
        assert self.limit is not None
        interval = line.intervals[i]
        position, value = line.points[i]
        x = self.x(position) + line.shift
        y = self.y(value)
        low = self.y(min(max(interval.low, self.low), self.limit))
        high = self.y(min(max(interval.high, self.low), self.limit))
        look = line.look if interval.holds_training else f"{line.look} samples"
        texts = {at: text for at, text, _ in self.marks}
        text = texts.get(position, "")
        title = element("title", f"{line.name}, {text}: {with_interval(interval)}")
        span = element("line", x1=x, x2=x, y1=low, y2=high, class_=f"span {look}")
        point = element("circle", cx=x, cy=y, r=2.5, class_=f"point {line.look}")
        return element("g", title, span, point)

    def grid(self) -> list[Markup]:
        """Horizontal lines with their values, and the texts below the plot."""
        drawn = []
        right = WIDTH - RIGHT
        about = 4 if self.limit is None else 5
        for tick in ticks(self.low, self.high, about):
            y = self.y(tick)
            text = tick_text(tick)
            drawn.append(element("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid"))
            drawn.append(element("text", text, x=LEFT - 6, y=y, class_="end middle muted small"))
        for position, first, second in self._readable():
            x = self.x(position)
            y = HEIGHT - 8
            drawn.append(element("text", first, x=x, y=y, class_="center muted small"))
            if second:
                y += SECOND_LINE
                drawn.append(element("text", second, x=x, y=y, class_="center muted small"))
        return drawn

    def _readable(self) -> list[tuple[float, str, str]]:
        """The last mark, and before it those that leave room for each other."""
        kept: list[tuple[float, str, str]] = []
        next_x = math.inf
        for mark in reversed(self.marks):
            position, *_ = mark
            x = self.x(position)
            if next_x - x >= APART:
                kept.append(mark)
                next_x = x
        kept.reverse()
        return kept
