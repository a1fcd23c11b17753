"""Predicted against observed values as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cotbal.report.svg import element, tick_text, ticks

SIDE, LEFT, TOP, BOTTOM = 320, 50, 10, 44  # pixels: the plot, and the room around it


@dataclass(frozen=True)
class Cloud:
    """Points (predicted, observed) that belong together; `title` is shown on hover."""

    title: str
    points: tuple[tuple[float, float], ...]


def scatter(clouds: Sequence[Cloud]) -> Markup:
    """One square plot in %, with the diagonal on which predictions are exact."""
    values = [abs(value) for cloud in clouds for point in cloud.points for value in point]
    limit = 1.05 * max(values) or 1.0

    def x(value: float) -> float:
        return LEFT + SIDE * (0.5 + value / (2 * limit))

    def y(value: float) -> float:
        return TOP + SIDE * (0.5 - value / (2 * limit))

    right, bottom = LEFT + SIDE, TOP + SIDE
    parts = []
    for tick in ticks(-limit, limit):
        text = tick_text(tick)
        across = y(tick)
        down = x(tick)
        parts.append(element("line", x1=LEFT, x2=right, y1=across, y2=across, class_="grid"))
        parts.append(element("line", x1=down, x2=down, y1=TOP, y2=bottom, class_="grid"))
        parts.append(element("text", text, x=LEFT - 6, y=across, class_="end middle muted small"))
        parts.append(element("text", text, x=down, y=bottom + 16, class_="center muted small"))
    parts.append(element("line", x1=LEFT, x2=right, y1=bottom, y2=TOP, class_="whisker samples"))
    for cloud in clouds:
        # One path of dots: a line of no length with round ends is a dot.
        dots = ""
        for predicted, observed in cloud.points:
            dots += f"M{x(predicted):.1f} {y(observed):.1f}h0"
        title = element("title", cloud.title)
        parts.append(element("path", title, d=dots, class_="dots"))
    middle = LEFT + SIDE / 2
    parts.append(element("text", "predicted, %", x=middle, y=bottom + 36, class_="center muted"))
    turned = f"translate(12 {TOP + SIDE / 2}) rotate(-90)"
    parts.append(element("text", "observed, %", transform=turned, class_="center muted"))
    width, height = right + 10, bottom + BOTTOM
    count = sum(len(cloud.points) for cloud in clouds)
    return element(
        "svg",
        *parts,
        role="img",
        aria_label=f"Predicted against observed changes of left-out trials, {count} points",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        class_="scatter",
    )
