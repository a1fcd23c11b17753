"""Figures as pure functions: numbers in, inline SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from cotbal.report.formatting import NOT_IDENTIFIED, number, with_interval
from cotbal.report.svg import element, label, shortened, tick_text, ticks, width

LETTERS = 18  # longest label
STRONGEST = 0.55  # opacity of the strongest cell; keeps its text readable in both colour schemes
CROWDED = 9  # units; more get smaller cells
ROW = 34  # pixels a row of a dot plot or bar plot

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


def heat_map(
    units: Sequence[str],
    values: Float[np.ndarray, "giver receiver"],
    intervals: Float[np.ndarray, "giver receiver 2"] | None,
) -> Markup:
    """Contribution `C[giver, receiver]` (Eq. 3), the paper's Fig. 2: a row a giver, a column a
    receiver.
    """
    wide, high, letters = (58, 38, LETTERS) if len(units) <= CROWDED else (41, 33, 14)
    longest = _longest(units, letters)
    left, top = 20 + longest, 34 + 0.72 * longest
    size = len(units)
    limit = _limit(values)
    cells = [
        _placed_cell(units, values, intervals, limit, (i, j), (wide, high), (left, top))
        for i in range(size)
        for j in range(size)
    ]
    rows = [
        label(unit, letters, x=left - 8, y=top + (i + 0.5) * high, class_="end middle")
        for i, unit in enumerate(units)
    ]
    columns = [
        label(
            unit,
            letters,
            transform=f"translate({left + (j + 0.5) * wide + 4:.1f} {top - 8:.1f}) rotate(-45)",
        )
        for j, unit in enumerate(units)
    ]
    total = (left + size * wide + 0.72 * longest - 0.3 * wide, top + size * high + 2)
    names = (
        element("text", "receiver", x=left, y=12, class_="muted"),
        element("text", "giver", x=left - 8, y=top - 8, class_="muted end"),
    )
    return element(
        "svg",
        HATCH,
        *names,
        *rows,
        *columns,
        *cells,
        role="img",
        aria_label=f"Heat map of the contribution of {size} givers to {size} receivers",
        width=round(total[0]),
        height=round(total[1]),
        viewBox=f"0 0 {total[0]:.0f} {total[1]:.0f}",
        class_="fixed" if size <= CROWDED else "fixed crowded",
    )


def _longest(names: Sequence[str], letters: int = LETTERS) -> float:
    return max(width(shortened(name, letters)) for name in names)


def _placed_cell(
    units: Sequence[str],
    values: Float[np.ndarray, "giver receiver"],
    intervals: Float[np.ndarray, "giver receiver 2"] | None,
    limit: float,
    index: tuple[int, int],
    size: tuple[int, int],
    origin: tuple[float, float],
) -> Markup:
    """One cell of the heat map, moved to where it belongs, with its numbers shown on hover."""
    giver, receiver = index
    (wide, high), (left, top) = size, origin
    interval = None if intervals is None else intervals[index]
    return element(
        "g",
        _cell(values[index], interval, limit, giver == receiver, size),
        element(
            "title", _cell_title(units[giver], units[receiver], values[index], intervals, index)
        ),
        transform=f"translate({left + receiver * wide:.1f} {top + giver * high:.1f})",
        class_="cell",
    )


def _limit(values: np.ndarray) -> float:
    """End of the symmetric colour scale: the strongest contribution between two units, at most 1,
    at least 0.1.
    """
    between = np.abs(values[~np.eye(len(values), dtype=bool)])
    known = between[~np.isnan(between)]
    return float(np.clip(known.max(initial=0.0), 0.1, 1.0))


def _cell(
    value: float, bounds: np.ndarray | None, limit: float, own: bool, size: tuple[int, int]
) -> Markup:
    wide, high = size
    box = {"width": wide - 2, "height": high - 2, "rx": 3}
    middle = {"x": wide / 2 - 1, "y": high / 2 - 1}
    if np.isnan(value):
        known = element("text", "n/i", **middle, class_="center middle muted")
        return (
            element("rect", **box, class_="surface")
            + element("rect", **box, fill="url(#hatch)")
            + known
        )
    clear = bounds is not None and not np.isnan(bounds[0]) and (bounds[0] > 0 or bounds[1] < 0)
    text = element(
        "text",
        number(value, 2),
        **middle,
        class_="center middle" + (" muted" if own else " strong" if clear else ""),
    )
    if own:
        return element("rect", **box, class_="own") + text
    strength = STRONGEST * min(1.0, abs(value) / limit)
    fill = element(
        "rect", **box, fill_opacity=float(strength), class_="positive" if value >= 0 else "negative"
    )
    return element("rect", **box, class_="surface") + fill + text


def _cell_title(
    giver: str, receiver: str, value: float, intervals: np.ndarray | None, place: tuple[int, int]
) -> str:
    if giver == receiver:
        return (
            f"{giver} to itself: 1 by definition"
            if not np.isnan(value)
            else f"{giver}: {NOT_IDENTIFIED}"
        )
    bounds = None if intervals is None else (float(intervals[place][0]), float(intervals[place][1]))
    return f"{giver} \N{RIGHTWARDS ARROW} {receiver}: {with_interval(value, bounds)}"


def heat_map_legend(values: Float[np.ndarray, "giver receiver"]) -> Markup:
    """The colour scale of the heat map."""
    limit, steps = _limit(values), 9
    shares = [2 * k / (steps - 1) - 1 for k in range(steps)]
    boxes = [
        element(
            "rect",
            x=60 + k * 22,
            y=2,
            width=22,
            height=12,
            class_="positive" if share >= 0 else "negative",
            fill_opacity=float(STRONGEST * abs(share)),
        )
        for k, share in enumerate(shares)
    ]
    words = (
        element("text", f"\N{MINUS SIGN}{limit:.2f}", x=52, y=8, class_="end middle"),
        element("text", f"+{limit:.2f}", x=66 + steps * 22, y=8, class_="middle"),
    )
    return element(
        "svg",
        *words,
        element("rect", x=60, y=2, width=22 * steps, height=12, class_="outline"),
        *boxes,
        role="img",
        aria_label=f"Colour scale from minus {limit:.2f} to plus {limit:.2f}",
        width=320,
        height=16,
        viewBox="0 0 320 16",
        class_="fixed",
    )


@dataclass(frozen=True)
class Point:
    """One row of a dot plot or bar plot; NaN means not identified."""

    name: str
    value: float
    bounds: tuple[float, float] | None


@dataclass(frozen=True)
class Axis:
    """What a dot plot or bar plot measures: its words, its line of reference, decimals and unit."""

    aria: str
    reference: float
    digits: int = 3
    signed: bool = False
    suffix: str = ""


def dots(points: Sequence[Point], axis: Axis) -> Markup:
    """Dots with whiskers beside a line of reference; a filled dot is clear of that line."""
    low, high = _range(points, axis.reference)
    return _plot(
        points, axis, (low, high), [_dot(p, axis, (low, high), i) for i, p in enumerate(points)]
    )


def bars(points: Sequence[Point], axis: Axis) -> Markup:
    """Bars from the line of reference with whiskers."""
    low, high = _range(points, axis.reference)
    return _plot(
        points, axis, (low, high), [_bar(p, axis, (low, high), i) for i, p in enumerate(points)]
    )


def _range(points: Sequence[Point], reference: float) -> tuple[float, float]:
    numbers = [
        reference,
        *(p.value for p in points),
        *(bound for p in points for bound in p.bounds or ()),
    ]
    known = [value for value in numbers if not np.isnan(value)]
    low, high = min(known), max(known)
    if low == high:  # every weight 1: show the line in the middle of some room
        low, high = low - 0.5, high + 0.5
    margin = 0.04 * (high - low) or 0.1
    return (low if low == reference else low - margin), (
        high if high == reference else high + margin
    )


def _plot(
    points: Sequence[Point], axis: Axis, ends: tuple[float, float], marks: Sequence[Markup]
) -> Markup:
    """Rows of marks between grid lines.

    Labels hang out of the plot on both sides (CSS leaves the room), and places are percentages: so
    the plot fits any width without scaling its letters.
    """
    height = len(points) * ROW
    grid = [
        element("line", x1=_at(t, ends), x2=_at(t, ends), y1=0, y2=height, class_="grid")
        + element(
            "text",
            tick_text(t) + axis.suffix,
            x=_at(t, ends),
            y=height + 18,
            class_="center muted small",
        )
        for t in ticks(*ends, about=4)
    ]
    zero = element(
        "line",
        x1=_at(axis.reference, ends),
        x2=_at(axis.reference, ends),
        y1=0,
        y2=height,
        class_="reference",
    )
    names = [
        label(p.name, LETTERS, x=-12, y=_middle(i), class_="end middle")
        for i, p in enumerate(points)
    ]
    values = [
        element("text", _value(p, axis), x="100%", dx=12, y=_middle(i), class_="middle")
        for i, p in enumerate(points)
    ]
    left, right = _longest([p.name for p in points]) + 14, 64 + 8 * len(axis.suffix)
    style = f"--left:{left:.0f}px;--right:{right}px"
    return element(
        "svg",
        HATCH,
        *grid,
        zero,
        *marks,
        *names,
        *values,
        role="img",
        aria_label=axis.aria,
        height=height + 26,
        class_="plot",
        style=style,
    )


def _value(point: Point, axis: Axis) -> str:
    return (
        "n/i"
        if np.isnan(point.value)
        else number(point.value, axis.digits, axis.signed) + axis.suffix
    )


def _dot(point: Point, axis: Axis, ends: tuple[float, float], row: int) -> Markup:
    if np.isnan(point.value):
        return _unknown(point, row)
    bounds = point.bounds
    clear = bounds is not None and not bounds[0] <= axis.reference <= bounds[1]
    y = _middle(row)
    mark = element(
        "circle", cx=_at(point.value, ends), cy=y, r=5, class_="dot" if clear else "dot hollow"
    )
    return element(
        "g", _whisker(bounds, ends, y), mark, element("title", _title(point, axis)), class_="mark"
    )


def _bar(point: Point, axis: Axis, ends: tuple[float, float], row: int) -> Markup:
    if np.isnan(point.value):
        return _unknown(point, row)
    start, stop = sorted((axis.reference, point.value))
    y = _middle(row)
    share = 100 * (stop - start) / (ends[1] - ends[0])
    bar = element(
        "rect", x=_at(start, ends), y=y - 8, width=f"{share:.2f}%", height=16, rx=2, class_="bar"
    )
    return element(
        "g",
        bar,
        _whisker(point.bounds, ends, y),
        element("title", _title(point, axis)),
        class_="mark",
    )


def _unknown(point: Point, row: int) -> Markup:
    band = element("rect", x=0, y=_middle(row) - 8, width="100%", height=16, fill="url(#hatch)")
    return element("g", band, element("title", f"{point.name}: {NOT_IDENTIFIED}"), class_="mark")


def _whisker(bounds: tuple[float, float] | None, ends: tuple[float, float], y: float) -> Markup:
    if bounds is None or np.isnan(bounds[0]):
        return Markup("")
    low, high = _at(bounds[0], ends), _at(bounds[1], ends)
    caps = [element("line", x1=x, x2=x, y1=y - 4, y2=y + 4, class_="whisker") for x in (low, high)]
    return element("line", x1=low, x2=high, y1=y, y2=y, class_="whisker") + Markup("").join(caps)


def _title(point: Point, axis: Axis) -> str:
    return (
        f"{point.name}:"
        f" {with_interval(point.value, point.bounds, axis.digits, axis.signed)}{axis.suffix}"
    )


def _middle(row: int) -> float:
    return (row + 0.5) * ROW


def _at(value: float, ends: tuple[float, float]) -> str:
    return f"{100 * (value - ends[0]) / (ends[1] - ends[0]):.2f}%"
