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
    return f"{rounded:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def bracket(interval: Interval, digits: int = 3, signed: bool = False) -> str:
    """The bounds as `[low, high]`, or a dash where there are none."""
    if not interval.has_bounds:
        return DASH
    return f"[{number(interval.low, digits, signed)}, {number(interval.high, digits, signed)}]"


def with_interval(interval: Interval, digits: int = 3, signed: bool = False) -> str:
    """A number and, where they are known, its bounds."""
    text = number(interval.value, digits, signed)
    if text == NOT_IDENTIFIED or not interval.has_bounds:
        return text
    return f"{text} {bracket(interval, digits, signed)}"


def count(value: float | None) -> str:
    """A whole number with thousands separated by a narrow space, or a dash where there is none."""
    return DASH if value is None else f"{round(value):,}".replace(",", THIN_SPACE)


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def plural(number_of: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number_of} {noun}" if number_of == 1 else f"{number_of} {noun}s"
