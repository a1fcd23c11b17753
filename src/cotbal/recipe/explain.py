"""What is wrong with a recipe file, in plain words: pydantic's errors, one per line."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError

from cotbal.errors import near
from cotbal.recipe import schema

# What was expected, by how pydantic begins the name of an error.
_EXPECTED = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "string": "a text",
    "path": "a path",
    "tuple": "a list such as [a, b]",
    "dict": "keys with values",
    "model": "a section: keys with values",
    "too_short": "at least one entry",
}
_KEYS = {"extra_forbidden": "unknown key", "missing": "this key is required"}
_UNION_MEMBER = re.compile(r"\[.*\]|constrained-(float|str)|.*-or-.*\[.*|(dict|literal)\[.*")

Field = tuple[str, ...]  # keys from the top of the file


def explain(error: ValidationError) -> str:
    """Every invalid field, one per line; alternatives of a union are joined by `or`."""
    errors: dict[Field, list[Any]] = {}
    for item in error.errors():
        errors.setdefault(_field(item), []).append(item)
    # An error inside a mapping means that a mapping was right there: leave out that of its parent.
    fields = [field for field in errors if not _has_inner(field, errors)]
    return "\n".join(f"  {_line(field, errors[field])}" for field in fields)


def _field(item: Any) -> Field:
    """Keys down to the field, without the members of a union that pydantic names among them."""
    kind, _, _ = item["type"].partition("_")
    parts = [str(part) for part in item["loc"]]
    if parts and parts[-1] in ("int", "float") and kind in (parts[-1], "finite"):
        parts.pop()
    return tuple(part for part in parts if not _UNION_MEMBER.fullmatch(part))


def _has_inner(field: Field, fields: dict[Field, list[Any]]) -> bool:
    depth = len(field)
    return any(other[:depth] == field for other in fields if len(other) > depth)


def _line(field: Field, items: list[Any]) -> str:
    texts = list(dict.fromkeys(map(_message, items)))
    alternatives = [texts[0], *(text.removeprefix("expected ") for text in texts[1:])]
    name = ".".join(field)[:200] or "recipe"
    expected = ", or ".join(alternatives)
    return f"{name}: {expected}{_value(items[-1])}"


def _message(item: Any) -> str:
    kind, text = item["type"], item["msg"]
    if kind in _KEYS:
        return _KEYS[kind]
    if kind == "string_pattern_mismatch":
        return _pattern(item["ctx"]["pattern"])
    if kind == "literal_error":
        return f"expected {item['ctx']['expected']}"
    if text.startswith(("Input should be greater", "Input should be less")):
        return f"expected a number {text.removeprefix('Input should be ')}"
    for start, words in _EXPECTED.items():
        if kind.startswith(start):
            return f"expected {words}"
    return str(text.removeprefix("Value error, "))


def _pattern(pattern: str) -> str:
    if pattern == schema.NAME:
        return "expected letters from A to Z, digits, `_`, `-` and `.`, the first a letter or digit"
    return f"expected a text that matches {pattern}"


def _value(item: Any) -> str:
    """The value in the file, and what was probably meant."""
    if item["type"] == "extra_forbidden":
        return near(str(item["loc"][-1]), _all_fields())
    if item["type"] in _KEYS or isinstance(item["input"], dict):
        return ""
    is_literal = item["type"] == "literal_error"
    choices = re.findall("'(.*?)'", item["ctx"]["expected"]) if is_literal else []
    return f"; found {item['input']!r:.200}{near(str(item['input']), choices)}"


def _all_fields() -> list[str]:
    names: list[str] = []
    for section in vars(schema).values():
        if isinstance(section, type) and issubclass(section, BaseModel):
            names += section.model_fields
    return names
