"""Thousands of messages of a few kinds, as few lines."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MANY = 5  # messages of one kind that are all shown
_FIRST = 3  # of more than that

_IMAGE = re.compile(r"\b(missing|broken|rejected) (?:image|image) (.*/)?[^/]+?(?=: |$)")
_VARYING = re.compile(r"""'[^']*'|"[^"]*"|\d[\d,.]*""")


def condensed(messages: Sequence[str]) -> list[str]:
    """The messages, of every kind at most the first few and how many more there are.

    Messages are of one kind if they differ only in numbers, in quoted text, and in the name of an
    image within a folder.
    """
    kinds: dict[str, list[str]] = {}
    for message in messages:
        kinds.setdefault(_kind(message), []).append(message)
    lines: list[str] = []
    for kind, group in kinds.items():
        if len(group) <= _MANY:
            lines += group
            continue
        folder = re.search(r"(\w+) images in (.+?)(?=: |$)", kind)
        where = f" {folder[1]} images in {folder[2]}" if folder else " of this kind"
        lines += [
            *group[:_FIRST],
            f"... and {len(group) - _FIRST:,} more; {len(group):,}{where} in all",
        ]
    return lines


def _kind(message: str) -> str:
    return _VARYING.sub("#", _IMAGE.sub(r"\1 images in \2", message))
