"""Values of raw records: which can be stored as text, which are empty, how messages show them."""

from __future__ import annotations

import math
from typing import Any


def is_text(value: Any) -> bool:
    """Whether `value` is text that UTF-8 can hold: JSON can spell half of a surrogate pair."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_json(value: Any) -> bool:
    """Whether JSON in UTF-8 can hold `value`: no bytes, no NaN, no half of a surrogate pair."""
    if isinstance(value, list):
        return all(map(is_json, value))
    if isinstance(value, dict):
        return all(map(is_text, value)) and all(map(is_json, value.values()))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, int) or is_text(value)


def is_filled(value: Any) -> bool:
    """Whether `value` holds anything but null, false and empty text, however deep."""
    if isinstance(value, list):
        return any(map(is_filled, value))
    if isinstance(value, dict):
        return any(map(is_filled, value.values()))
    return value is not None and value is not False and value != ""


def show(value: Any) -> str:
    """Type and beginning of `value`, at most 60 characters of it."""
    shown = ascii(value[:60] if isinstance(value, str | bytes) else value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return "nothing" if value is None else f"{type(value).__name__} {shown}"
