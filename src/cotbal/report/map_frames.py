"""What surrounds the cells of a heat map: names of rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cotbal.report.figures import LETTERS, longest
from cotbal.report.svg import element, label

STRONGEST = 0.55  # opacity of the strongest cell; keeps its text readable in both colour schemes


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


@dataclass(frozen=True)
class Grid:
    """Where the cells of a heat map are.

    Attributes:
        frame: their names.
        wide, high: pixels of a cell.
        letters: longest name.
        step: every which row and column has its name beside it.
    """

    frame: Frame
    wide: int
    high: int
    letters: int = LETTERS
    step: int = 1

    @property
    def slanted(self) -> float:
        """Width and height of the longest name of a column."""
        return 0.72 * longest(self.frame.columns, self.letters)

    @property
    def left(self) -> float:
        """Pixels left of the cells."""
        return 20 + longest(self.frame.rows, self.letters)

    @property
    def top(self) -> float:
        """Pixels above the cells."""
        return 34 + self.slanted

    def names(self) -> list[Markup]:
        """Names of rows and columns, and what they are."""
        frame, left, top = self.frame, self.left, self.top
        of_rows, of_columns = frame.corner
        parts = [
            element("text", of_columns, x=left, y=12, class_="muted"),
            element("text", of_rows, x=left - 8, y=top - 8, class_="muted end"),
        ]
        for i in range(0, len(frame.rows), self.step):
            row = frame.rows[i]
            y = top + (i + 0.5) * self.high
            parts.append(label(row, self.letters, x=left - 8, y=y, class_="end middle"))
        for j in range(0, len(frame.columns), self.step):
            x = left + (j + 0.5) * self.wide + 4
            moved = f"translate({x:.1f} {top - 8:.1f}) rotate(-45)"
            parts.append(label(frame.columns[j], self.letters, transform=moved))
        return parts

    def drawing(self, parts: Sequence[Markup], look: str) -> Markup:
        """The heat map with these parts."""
        frame, slanted = self.frame, self.slanted
        cells = len(frame.columns) * self.wide
        width = self.left + cells + slanted - 0.3 * self.wide
        height = self.top + len(frame.rows) * self.high + 2
        return element(
            "svg",
            *parts,
            role="img",
            aria_label=frame.aria,
            width=round(width),
            height=round(height),
            viewBox=f"0 0 {width:.0f} {height:.0f}",
            class_=look,
        )
