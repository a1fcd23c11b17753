"""How numbers are written in a report: one place, so that the page and the Markdown always
agree."""

from __future__ import annotations

import math

NOT_IDENTIFIED = "not identified"
MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A number with a fixed count of decimals; None and NaN are said in words."""
    if value is None or math.isnan(value):
        return NOT_IDENTIFIED
    rounded = round(value, digits) + 0.0  # no negative zero
    return f"{rounded:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def bracket(low: float, high: float, digits: int = 3, signed: bool = False) -> str:
    """An interval as `[low, high]`."""
    return f"[{number(low, digits, signed)}, {number(high, digits, signed)}]"


def with_interval(
    value: float | None, bounds: tuple[float, float] | None, digits: int = 3, signed: bool = False
) -> str:
    """A number and, where there is one, its interval."""
    text = number(value, digits, signed)
    if text == NOT_IDENTIFIED or bounds is None or math.isnan(bounds[0]):
        return text
    return f"{text} {bracket(*bounds, digits, signed)}"


def count(value: float | None) -> str:
    """A whole number with thousands separated by a narrow space, or a dash where there is none."""
    return (
        "\N{EN DASH}"
        if value is None
        else f"{round(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    )


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def plural(amount: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"
