"""An answer and its reference, from the lines of a file of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal.benchmarks.releases.rows import mapping, writable


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


def _pair(raw: Any, source: Path, number: int) -> Pair:
    row = mapping(raw, f"{source}, line {number}")
    question, answer, references = row.text("question"), row.text("answer"), row.texts("references")
    if not references:
        raise row.error("references: expected at least one text; found none", "wrong-type")
    details = row.fields.get("details") or {}
    category = _detail(details, "category")
    return Pair(
        id=str(row.fields.get("id", number)),
        question=question,
        answer=answer,
        reference=references[0],
        context=_detail(details, "context"),
        category=category,
        rule=_detail(details, "rule") or category,
        has_images=bool(row.fields.get("images")),
    )


def _detail(details: Mapping[str, Any], name: str) -> str:
    return writable(str(details.get(name, "")))
