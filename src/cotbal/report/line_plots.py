"""Small line plots, side by side: against the epoch, or against a scale of their own."""

from __future__ import annotations

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
    last = ", ".join(f"{line.name} {number(line.points[-1][1], 2)}" for line in ordered)
    return element(
        "svg",
        label(title, 34, x=LEFT, y=14, class_="strong"),
        *frame.grid(),
        *(frame.polyline(line) for line in ordered),
        *(frame.elbow(line) for line in ordered if line.elbow is not None),
        *(frame.dot(line, i) for line in ordered for i in range(len(line.intervals))),
        role="img",
        aria_label=f"{quantity} of {title}, {len(lines)} curves; last values: {last}",
        viewBox=f"0 0 {WIDTH} {frame.height}",
        class_="panel",
    )


def _frame(lines: Sequence[Line], scale: Scale | None) -> _Frame:
    epochs, values = zip(*(point for line in lines for point in line.points), strict=True)
    low, high = min(0.0, *values), 1.05 * max(0.0, *values)
    if scale is None:
        last = max(epochs) or 1.0
        marks = tuple((tick, tick_text(tick), "") for tick in ticks(0, last, 3))
        return _Frame(0.0, last, low, high if high > low else 1.0, marks)
    highest = [interval.high for line in lines for interval in line.intervals]
    high = max([high, *(1.05 * np.minimum(highest, scale.limit))])
    first, last = scale.marks[0][0], scale.marks[-1][0]
    margin = 0.06 * (last - first) or 1.0
    high = high if high > low else 1.0
    return _Frame(first - margin, last + margin, low, high, scale.marks, scale.limit)


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
        return LEFT + (WIDTH - LEFT - RIGHT) * (position - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - TOP) * (value - self.low) / (self.high - self.low)

    def polyline(self, line: Line) -> Markup:
        title = element("title", f"{line.name}: last {number(line.points[-1][1])}")
        points = [f"{self.x(at) + line.shift:.1f},{self.y(value):.1f}" for at, value in line.points]
        return element("polyline", title, points=" ".join(points), class_=f"curve {line.look}")

    def elbow(self, line: Line) -> Markup:
        assert line.elbow is not None
        epoch, value = line.elbow
        title = element("title", f"elbow of {line.name} at {epoch:.3g} of the data")
        return element("circle", title, cx=self.x(epoch), cy=self.y(value), r=4, class_="bend")

    def dot(self, line: Line, i: int) -> Markup:
        """A point with its interval."""
        assert self.limit is not None
        interval, (at, value) = line.intervals[i], line.points[i]
        low = self.y(min(max(interval.low, self.low), self.limit))
        high = self.y(min(max(interval.high, self.low), self.limit))
        x = self.x(at) + line.shift
        text = next((text for position, text, _ in self.marks if position == at), "")
        look = line.look if interval.holds_training else f"{line.look} samples"
        return element(
            "g",
            element("title", f"{line.name}, {text}: {with_interval(interval)}"),
            element("line", x1=x, x2=x, y1=low, y2=high, class_=f"span {look}"),
            element("circle", cx=x, cy=self.y(value), r=2.5, class_=f"point {line.look}"),
        )

    def grid(self) -> list[Markup]:
        drawn = []
        for tick in ticks(self.low, self.high, 4 if self.limit is None else 5):
            y, text = self.y(tick), tick_text(tick)
            drawn += [
                element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"),
                element("text", text, x=LEFT - 6, y=y, class_="end middle muted small"),
            ]
        for position, first, second in self._readable():
            x = self.x(position)
            drawn.append(element("text", first, x=x, y=HEIGHT - 8, class_="center muted small"))
            if second:
                y = HEIGHT - 8 + SECOND_LINE
                drawn.append(element("text", second, x=x, y=y, class_="center muted small"))
        return drawn

    def _readable(self) -> list[tuple[float, str, str]]:
        """The last mark, and before it those that leave room for each other."""
        kept: list[tuple[float, str, str]] = []
        for mark in reversed(self.marks):
            if not kept or self.x(kept[-1][0]) - self.x(mark[0]) >= APART:
                kept.append(mark)
        return kept[::-1]
