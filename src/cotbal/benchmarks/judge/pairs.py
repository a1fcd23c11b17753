"""An answer and its reference, from the lines of a file of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal.errors import DataError


@dataclass(frozen=True)
class Pair:
    """One answer beside its reference.

    Attributes:
        id: that of the record.
        question, answer: texts of the user and the model.
        reference: the first of the record's references.
        context: the image in words; empty when the record has none.
        category: conv, detail, complex, or any other word.
        rule: name of the rule by which it is judged: `rule` of the record, otherwise the category.
        has_images: whether the record has any.
    """

    id: str
    question: str
    answer: str
    reference: str
    context: str
    category: str
    rule: str
    has_images: bool


def read_pairs(rows: Sequence[Any], source: Path) -> tuple[Pair, ...]:
    """The pairs of a file of answers (`generations/<task>.<split>.jsonl`), in its order.

    Raises:
        DataError: an invalid line.
    """
    return tuple(_pair(row, source, number) for number, row in enumerate(rows, 1))


def _pair(row: Any, source: Path, number: int) -> Pair:
    if not isinstance(row, dict):
        raise DataError(
            f"{source}, line {number}: expected a mapping; found {type(row).__name__}", "wrong-type"
        )
    for key in ("question", "answer"):
        if not isinstance(row.get(key), str):
            raise DataError(
                f"{source}, line {number}: {key}: expected text; found {_shown(row.get(key))}",
                "wrong-type",
            )
    references = row.get("references")
    if not isinstance(references, list) or not references or not isinstance(references[0], str):
        raise DataError(
            f"{source}, line {number}: references: expected a list of texts; found"
            f" {_shown(references)}",
            "wrong-type",
        )
    details = row.get("details") or {}
    category = _detail(details, "category")
    return Pair(
        id=str(row.get("id", number)),
        question=_sendable(row["question"]),
        answer=_sendable(row["answer"]),
        reference=_sendable(references[0]),
        context=_detail(details, "context"),
        category=category,
        rule=_detail(details, "rule") or category,
        has_images=bool(row.get("images")),
    )


def _detail(details: Mapping[str, Any], name: str) -> str:
    return _sendable(str(details.get(name, "")))


def _sendable(text: str) -> str:
    """Half a pair of surrogates, which JSON accepts and UTF-8 does not, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
