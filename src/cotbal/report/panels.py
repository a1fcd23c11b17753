"""Small plots of something against the epoch, or against a scale of its own, one beside the
other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from cotbal.report.formatting import number, with_interval
from cotbal.report.svg import element, label, tick_text, ticks

WIDTH, HEIGHT = 280, 170
Look = Literal["other", "baseline", "ours"]
LAYERS: tuple[Look, ...] = ("other", "baseline", "ours")  # from back to front
LEFT, RIGHT, TOP, BOTTOM = 38, 8, 26, 24
SECOND_LINE = 14  # pixels of a second line of text below
APART = 38.0  # pixels between texts below, so that none covers another


@dataclass(frozen=True)
class Interval:
    """The interval of one point of a line."""

    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        name: whose it is.
        look: a class of the style sheet.
        points: (epoch, value); instead of the epoch, the place on a scale.
        bend: (epoch, value) to mark, see `cotbal.jobs.elbow`.
        intervals: of points that were measured one by one; each such point gets a dot.
        shift: pixels to the right, so that intervals at one place can be told apart.
    """

    name: str
    look: Look
    points: tuple[tuple[float, float], ...]
    bend: tuple[float, float] | None = None
    intervals: tuple[Interval, ...] = ()
    shift: float = 0.0


@dataclass(frozen=True)
class Scale:
    """What lies below the plot instead of epochs.

    Attributes:
        marks: (place, text, second text), ascending.
        limit: values end here, intervals too.
    """

    marks: tuple[tuple[float, str, str], ...]
    limit: float


def panel(title: str, quantity: str, curves: Sequence[Curve], scale: Scale | None = None) -> Markup:
    """One plot; `quantity` is what the curves show, for those who hear the page."""
    place = _place(curves, scale)
    # The runs that matter last, so that they lie on top.
    ordered = sorted(curves, key=lambda c: LAYERS.index(c.look))
    lines = [
        element(
            "polyline",
            element("title", _title(c)),
            points=place.points(c),
            class_=f"curve {c.look}",
        )
        for c in ordered
    ]
    marks = [place.mark(c) for c in ordered if c.bend is not None]
    measured = [place.measured(c, i) for c in ordered for i in range(len(c.intervals))]
    return element(
        "svg",
        label(title, 34, x=LEFT, y=14, class_="strong"),
        *place.grid(),
        *lines,
        *marks,
        *measured,
        role="img",
        aria_label=f"{quantity} of {title}, {len(curves)} curves; last values: {_lasts(ordered)}",
        viewBox=f"0 0 {WIDTH} {place.height}",
        class_="panel",
    )


def _title(found: Curve) -> str:
    return f"{found.name}: last {number(found.points[-1][1])}"


def _lasts(curves: Sequence[Curve]) -> str:
    return ", ".join(f"{c.name} {number(c.points[-1][1], 2)}" for c in curves)


def _place(curves: Sequence[Curve], scale: Scale | None) -> _Place:
    values = [y for c in curves for _, y in c.points]
    low, high = min(0.0, *values), 1.05 * max(0.0, *values)
    if scale is None:
        last = max(x for c in curves for x, _ in c.points) or 1.0
        marks = tuple((t, tick_text(t), "") for t in ticks(0, last, 3))
        return _Place(0.0, last, low, high if high > low else 1.0, marks)
    ends = [min(each.high, scale.limit) for c in curves for each in c.intervals]
    high = max(high, 1.05 * max(ends, default=0.0))
    places = [place for place, _, _ in scale.marks]
    margin = 0.06 * (places[-1] - places[0]) or 1.0
    return _Place(
        places[0] - margin,
        places[-1] + margin,
        low,
        high if high > low else 1.0,
        scale.marks,
        scale,
    )


@dataclass(frozen=True)
class _Place:
    """From (epoch, value) to pixels."""

    first: float
    last: float
    low: float
    high: float
    marks: tuple[tuple[float, str, str], ...]
    scale: Scale | None = None

    @property
    def bottom(self) -> int:
        return HEIGHT - BOTTOM

    @property
    def height(self) -> int:
        return HEIGHT + (SECOND_LINE if self.scale else 0)

    def x(self, epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - TOP) * (value - self.low) / (self.high - self.low)

    def points(self, found: Curve) -> str:
        return " ".join(
            f"{self.x(epoch) + found.shift:.1f},{self.y(value):.1f}"
            for epoch, value in found.points
        )

    def mark(self, found: Curve) -> Markup:
        assert found.bend is not None
        epoch, value = found.bend
        title = element("title", f"{found.name} bends at {epoch:.3g} of the data")
        return element("circle", title, cx=self.x(epoch), cy=self.y(value), r=4, class_="bend")

    def measured(self, found: Curve, i: int) -> Markup:
        """A dot with its interval, cut off where the possible values end."""
        assert self.scale is not None
        each, (at, value) = found.intervals[i], found.points[i]
        x = self.x(at) + found.shift
        low, high = (self.y(min(max(y, self.low), self.scale.limit)) for y in (each.low, each.high))
        text = next((text for place, text, _ in self.marks if place == at), "")
        title = element(
            "title", f"{found.name}, {text}: {with_interval(value, (each.low, each.high))}"
        )
        bar = element("line", x1=x, x2=x, y1=low, y2=high, class_=f"span {found.look}")
        dot = element("circle", cx=x, cy=self.y(value), r=2.5, class_=f"point {found.look}")
        return element("g", title, bar, dot)

    def grid(self) -> list[Markup]:
        rows = [
            element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=self.y(t), y2=self.y(t), class_="grid")
            + element(
                "text", tick_text(t), x=LEFT - 6, y=self.y(t), class_="end middle muted small"
            )
            for t in ticks(self.low, self.high, 5 if self.scale else 4)
        ]
        columns = [
            element(
                "text",
                text,
                x=self.x(place),
                y=HEIGHT - 8 + SECOND_LINE * line,
                class_="center muted small",
            )
            for place, *texts in self._readable()
            for line, text in enumerate(texts)
            if text
        ]
        return rows + columns

    def _readable(self) -> list[tuple[float, str, str]]:
        """The last mark, and before it those that leave room for each other."""
        kept: list[tuple[float, str, str]] = []
        for mark in reversed(self.marks):
            if not kept or self.x(kept[-1][0]) - self.x(mark[0]) >= APART:
                kept.append(mark)
        return kept[::-1]
