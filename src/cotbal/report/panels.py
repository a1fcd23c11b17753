"""Small plots of something against the epoch, one beside the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from cotbal.report.formatting import number
from cotbal.report.svg import element, label, tick_text, ticks

WIDTH, HEIGHT = 280, 170
Look = Literal["other", "baseline", "ours"]
LAYERS: tuple[Look, ...] = ("other", "baseline", "ours")  # from back to front
LEFT, RIGHT, TOP, BOTTOM = 38, 8, 26, 24


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        name: whose it is.
        look: a class of the style sheet.
        points: (epoch, value).
        bend: (epoch, value) to mark, see `cotbal.bend`.
    """

    name: str
    look: Look
    points: tuple[tuple[float, float], ...]
    bend: tuple[float, float] | None = None


def panel(title: str, quantity: str, curves: Sequence[Curve]) -> Markup:
    """One plot; `quantity` is what the curves show, for those who hear the page."""
    last = max(x for c in curves for x, _ in c.points)
    values = [y for c in curves for _, y in c.points]
    place = _Place(last or 1.0, min(0.0, *values), max(values) * 1.05 or 1.0)
    # The runs that matter last, so that they lie on top.
    ordered = sorted(curves, key=lambda c: LAYERS.index(c.look))
    lines = [
        element("polyline", element("title", _title(c)), points=place.points(c.points), class_=f"curve {c.look}")
        for c in ordered
    ]
    marks = [place.mark(c) for c in ordered if c.bend is not None]
    return element(
        "svg", label(title, 34, x=LEFT, y=14, class_="strong"), *place.grid(), *lines, *marks,
        role="img", aria_label=f"{quantity} of {title}, {len(curves)} curves; last values: {_lasts(ordered)}",
        viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="panel",
    )  # fmt: skip


def _title(found: Curve) -> str:
    return f"{found.name}: last {number(found.points[-1][1])}"


def _lasts(curves: Sequence[Curve]) -> str:
    return ", ".join(f"{c.name} {number(c.points[-1][1], 2)}" for c in curves)


@dataclass(frozen=True)
class _Place:
    """From (epoch, value) to pixels."""

    last: float
    low: float
    high: float

    def x(self, epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * epoch / self.last

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.low) / (self.high - self.low)

    def points(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{self.x(epoch):.1f},{self.y(value):.1f}" for epoch, value in points)

    def mark(self, found: Curve) -> Markup:
        assert found.bend is not None
        epoch, value = found.bend
        title = element("title", f"{found.name} bends at {epoch:.3g} of the data")
        return element("circle", title, cx=self.x(epoch), cy=self.y(value), r=4, class_="bend")

    def grid(self) -> list[Markup]:
        rows = [
            element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=self.y(t), y2=self.y(t), class_="grid")
            + element("text", tick_text(t), x=LEFT - 6, y=self.y(t), class_="end middle muted small")
            for t in ticks(self.low, self.high, 4)
        ]
        columns = [
            element("text", tick_text(t), x=self.x(t), y=HEIGHT - 8, class_="center muted small")
            for t in ticks(0, self.last, 3)
        ]
        return rows + columns
