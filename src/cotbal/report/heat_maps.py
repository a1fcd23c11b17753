"""Heat maps as inline SVG: a row per giver, a column per receiver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup

from cotbal.report.figures import HATCH, LETTERS, longest
from cotbal.report.formatting import NOT_IDENTIFIED, number, with_interval
from cotbal.report.svg import element, label
from cotbal.scores.interval import Interval

STRONGEST = 0.55  # opacity of the strongest cell; keeps its text readable in both colour schemes
CROWDED = 9  # columns; more get smaller cells
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


@dataclass(frozen=True)
class Frame:
    """What a heat map shows.

    Attributes:
        rows, columns: their names.
        corner: what rows and columns are.
        aria: the whole, for screen readers.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    corner: tuple[str, str]
    aria: str


def contribution_map(units: Sequence[str], cells: Cells) -> Markup:
    """Contribution `C[giver, receiver]` (Eq. 3), the paper's Fig. 2."""
    limit = limit_of(cells)
    size = len(units)
    frame = Frame(
        units,
        units,
        ("giver", "receiver"),
        f"Heat map of the contribution of {size} givers to {size} receivers",
    )

    def cell(i: int, j: int) -> Cell:
        interval = cells[i][j]
        title = _title(units[i], units[j], interval)
        if np.isnan(interval.value):
            return Cell("n/i", title, "unknown")
        text = number(interval.value, 2)
        if i == j:
            return Cell(text, title, "fixed")
        return Cell(text, title, "plain", interval.value / limit, interval.differs())

    return heat_map(frame, cell)


def limit_of(cells: Cells) -> float:
    """End of the symmetric colour scale: the strongest contribution between two units, at most 1,
    at least 0.1.
    """
    strongest = 0.1
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            is_known = not np.isnan(cell.value)
            if is_known and i != j:
                strongest = max(strongest, abs(cell.value))
    return min(strongest, 1.0)


def _title(giver: str, receiver: str, interval: Interval) -> str:
    if giver != receiver:
        return f"{giver} \N{RIGHTWARDS ARROW} {receiver}: {with_interval(interval)}"
    if np.isnan(interval.value):
        return f"{giver}: {NOT_IDENTIFIED}"
    return f"{giver} to itself: 1 by definition"


def heat_map(frame: Frame, cell: Callable[[int, int], Cell]) -> Markup:
    """The heat map with the cell of every row and column."""
    crowded = len(frame.columns) > CROWDED
    wide, high, letters = (41, 33, 14) if crowded else (58, 38, LETTERS)
    of_rows, of_columns = frame.corner
    slanted = 0.72 * longest(frame.columns, letters)  # width and height of the longest name
    left = 20 + longest(frame.rows, letters)
    top = 34 + slanted
    parts = [
        element("text", of_columns, x=left, y=12, class_="muted"),
        element("text", of_rows, x=left - 8, y=top - 8, class_="muted end"),
    ]
    for i, name in enumerate(frame.rows):
        y = top + (i + 0.5) * high
        parts.append(label(name, letters, x=left - 8, y=y, class_="end middle"))
    for j, name in enumerate(frame.columns):
        x = left + (j + 0.5) * wide + 4
        y = top - 8
        moved = f"translate({x:.1f} {y:.1f}) rotate(-45)"
        parts.append(label(name, letters, transform=moved))
    for i in range(len(frame.rows)):
        for j in range(len(frame.columns)):
            x = left + j * wide
            y = top + i * high
            moved = f"translate({x:.1f} {y:.1f})"
            drawn = _drawn(cell(i, j), (wide, high))
            parts.append(element("g", drawn, transform=moved, class_="cell"))
    full_width = left + len(frame.columns) * wide + slanted - 0.3 * wide
    full_height = top + len(frame.rows) * high + 2
    return element(
        "svg",
        HATCH,
        *parts,
        role="img",
        aria_label=frame.aria,
        width=round(full_width),
        height=round(full_height),
        viewBox=f"0 0 {full_width:.0f} {full_height:.0f}",
        class_="fixed crowded" if crowded else "fixed",
    )


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
    layers.append(element("text", cell.text, x=wide / 2 - 1, y=high / 2 - 1, class_=words))
    layers.append(element("title", cell.title))
    return Markup("").join(layers)
