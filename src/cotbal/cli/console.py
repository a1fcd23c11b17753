"""What every command prints with: plain tables, warnings, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from cotbal.report.tables import Table as Content
    from cotbal.scores.interval import Interval

out = Console(highlight=False, emoji=False)  # a run may be named `full:chart:`, which is an emoji
if not out.is_terminal:  # a file or pipe has no width; do not cut columns to 80
    out = Console(highlight=False, emoji=False, width=160)


def table(*columns: str, title: str | None = None) -> Table:
    """A table whose first column is a name; others are numbers, and remarks where the header is
    empty.
    """
    made = Table(
        box=None, padding=(0, 2, 0, 0), title=title, title_justify="left", title_style="bold"
    )
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i and column else "left", no_wrap=i == 0)
    return made


def show(table: Table) -> None:
    """Print a table. In a narrow terminal words wrap, and names and numbers stay whole: lines run
    over.
    """
    for column in table.columns:
        cells = [Text.from_markup(str(cell)).plain for cell in (column.header, *column.cells)]
        pieces = cells if column.no_wrap else " ".join(cells).split()
        column.min_width = max(map(cell_len, pieces), default=0)
    needed = sum((column.min_width or 0) + 2 for column in table.columns)
    table.width = needed if needed > out.width else None
    out.print(table, crop=False)


def show_content(content: Content) -> None:
    """Print a table of the report."""
    shown = table(*content.header)
    for j in content.words:
        shown.columns[j].justify = "left"
    for row in content.rows:
        shown.add_row(*map(escape, row))
    out.print(f"[bold]{escape(content.title)}[/]", soft_wrap=True)  # wider than a table may be
    show(shown)
    out.print()


def show_noise(seeds: Iterable[int], intervals: Sequence[Interval], learn: str = "") -> None:
    """What the intervals above hold; `learn` says how to measure the noise of training."""
    from cotbal.scores.interval import SAMPLING_ONLY, hold_training

    words = f"{SAMPLING_ONLY}. {learn}".strip()
    if hold_training(intervals):
        words = "95 %, over samples and seeds"
    elif not any(interval.has_bounds for interval in intervals):
        words = f"none. {learn}".strip()
    out.print(f"seeds: {', '.join(map(str, seeds))}; intervals: {words}", soft_wrap=True)


def warn(messages: Iterable[str]) -> None:
    """Print warnings, one per line."""
    for message in messages:
        out.print(f"[yellow]warning[/]  {escape(message)}", soft_wrap=True)


def print_json(content: Any) -> None:
    """Print what `--json` gives."""
    print(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))
