"""Heat maps as inline SVG: a row per giver, a column per receiver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from cotbal.report.figures import HATCH
from cotbal.report.formatting import NOT_IDENTIFIED, number, with_interval
from cotbal.report.map_frames import STRONGEST, Frame, Grid
from cotbal.report.map_images import map_image
from cotbal.report.svg import element
from cotbal.scores.interval import Interval

CROWDED = 9  # columns; more get smaller cells
Contribution = Float[np.ndarray, "giver receiver"]
Cells = Sequence[Sequence[Interval]]  # by giver and receiver
# `own`: coloured with an outline; `fixed`: an outline alone; `unknown`: hatched.
Look = Literal["plain", "own", "fixed", "unknown"]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: in the cell.
        title: on hover.
        shade: of its colour, from -1 (negative) to 1 (positive).
        strong: whether the text is bold.
    """

    text: str
    title: str
    look: Look = "plain"
    shade: float = 0.0
    strong: bool = False


def contribution_map(units: Sequence[str], cells: Cells) -> Markup:
    """Contribution `C[giver, receiver]` (Eq. 3), the paper's Fig. 2."""
    flat = [interval.value for interval in chain(*cells)]
    limit = limit_of(np.reshape(flat, (len(cells), -1)))

    def cell(i: int, j: int) -> Cell:
        interval = cells[i][j]
        title = _title(units[i], units[j], interval)
        if np.isnan(interval.value):
            return Cell("n/i", title, "unknown")
        text = number(interval.value, 2)
        if i == j:
            return Cell(text, title, "fixed")
        return Cell(text, title, "plain", interval.value / limit, interval.differs())

    return heat_map(_contribution_frame(units), cell)


def contribution_image(units: Sequence[str], values: Contribution) -> Markup:
    """The same for many units, without numbers; no colour on the diagonal, 1 by definition."""
    shades = values / limit_of(values)
    shades[np.eye(len(units), dtype=bool) & ~np.isnan(values)] = 0
    return map_image(_contribution_frame(units), shades)


def _contribution_frame(units: Sequence[str]) -> Frame:
    size = len(units)
    aria = f"Heat map of the contribution of {size} givers to {size} receivers"
    return Frame(units, units, ("giver", "receiver"), aria)


def limit_of(values: Contribution) -> float:
    """End of the symmetric colour scale: the strongest contribution between two units, at most 1,
    at least 0.1.
    """
    between = ~np.eye(len(values), dtype=bool) & ~np.isnan(values)
    strongest = np.abs(values[between]).max(initial=0.1)
    return min(float(strongest), 1.0)


def _title(giver: str, receiver: str, interval: Interval) -> str:
    if giver != receiver:
        return f"{giver} \N{RIGHTWARDS ARROW} {receiver}: {with_interval(interval)}"
    if np.isnan(interval.value):
        return f"{giver}: {NOT_IDENTIFIED}"
    return f"{giver} to itself: 1 by definition"


def heat_map(frame: Frame, cell: Callable[[int, int], Cell]) -> Markup:
    """The heat map with the cell of every row and column."""
    crowded = len(frame.columns) > CROWDED
    grid = Grid(frame, 41, 33, 14) if crowded else Grid(frame, 58, 38)
    left, top = grid.left, grid.top
    parts = [HATCH, *grid.names()]
    for i in range(len(frame.rows)):
        for j in range(len(frame.columns)):
            x = left + j * grid.wide
            y = top + i * grid.high
            moved = f"translate({x:.1f} {y:.1f})"
            drawn = _drawn(cell(i, j), (grid.wide, grid.high))
            parts.append(element("g", drawn, transform=moved, class_="cell"))
    return grid.drawing(parts, "fixed crowded" if crowded else "fixed")


def _drawn(cell: Cell, size: tuple[int, int]) -> Markup:
    """Colour, number and title of one cell."""
    wide, high = size
    box = {"width": wide - 2, "height": high - 2, "rx": 3}
    layers = []
    if cell.look != "fixed":
        layers.append(element("rect", **box, class_="surface"))
    if cell.look == "unknown":
        layers.append(element("rect", **box, fill="url(#hatch)"))
    if cell.look in ("plain", "own"):
        opacity = STRONGEST * min(1.0, abs(cell.shade))
        sign = "positive" if cell.shade >= 0 else "negative"
        layers.append(element("rect", **box, fill_opacity=opacity, class_=sign))
    if cell.look in ("own", "fixed"):
        look = "outline" if cell.look == "fixed" else "outline own"
        layers.append(element("rect", **box, class_=look))
    words = "center middle"
    if cell.look in ("fixed", "unknown"):
        words += " muted"
    if cell.strong:
        words += " strong"
    x, y = wide / 2 - 1, high / 2 - 1
    layers.append(element("text", cell.text, x=x, y=y, class_=words))
    layers.append(element("title", cell.title))
    return Markup("").join(layers)
