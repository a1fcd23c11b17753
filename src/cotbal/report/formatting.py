"""How numbers are written in a report, so that the page and the Markdown always agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cotbal.scores.interval import Interval

NOT_IDENTIFIED = "not identified"
MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A number with a fixed count of decimals; `not identified` for None and NaN."""
    if value is None or math.isnan(value):
        return NOT_IDENTIFIED
    rounded = round(value, digits) + 0.0  # no negative zero
    sign = "+" if signed else ""
    text = f"{rounded:{sign}.{digits}f}"
    return text.replace("-", MINUS)


def bracket(interval: Interval, digits: int = 3, signed: bool = False) -> str:
    """The bounds as `[low, high]`, or a dash where there are none."""
    if not interval.has_bounds:
        return DASH
    low = number(interval.low, digits, signed)
    high = number(interval.high, digits, signed)
    return f"[{low}, {high}]"


def with_interval(interval: Interval, digits: int = 3, signed: bool = False) -> str:
    """A number and, where they are known, its bounds."""
    text = number(interval.value, digits, signed)
    if text == NOT_IDENTIFIED or not interval.has_bounds:
        return text
    bounds = bracket(interval, digits, signed)
    return f"{text} {bounds}"


def count(value: float | None) -> str:
    """A whole number with thousands separated by a narrow space, or a dash where there is none."""
    if value is None:
        return DASH
    whole = round(value)
    return f"{whole:,}".replace(",", THIN_SPACE)


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    *others, last = names
    head = ", ".join(others)
    return f"{head} and {last}"


def plural(number_of: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    ending = "" if number_of == 1 else "s"
    return f"{number_of} {noun}{ending}"
