"""Records in the layout of LLaVA's own files: an id, and turns of human and gpt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cotbal.benchmarks.releases.conversation import Asked
from cotbal.benchmarks.releases.rows import Row
from cotbal.benchmarks.releases.rules import without_marker

TURN = ("from", "value")


def identity(row: Row) -> str:
    """The id of a record, a text or a number."""
    value = row.fields.get("id")
    return str(value) if isinstance(value, int) else row.text("id")


def paired(row: Row) -> tuple[Asked, ...]:
    """The turns of a record as questions and answers, without the marker of its image.

    Raises:
        DataError: they are not human and gpt in turn, from a question to an answer.
    """
    turns = row.rows("conversations", TURN)
    roles = [turn.text("from") for turn in turns]
    if not roles or roles != ["human", "gpt"] * (len(roles) // 2):
        listed = ", ".join(roles[:6]) or "none"
        raise row.error(
            f"conversations: expected human and gpt in turn, gpt last; found {listed}",
            "invalid-turns",
        )
    return tuple(_pairs([turn.text("value") for turn in turns]))


def _pairs(texts: Sequence[str]) -> Iterator[Asked]:
    for question, answer in zip(texts[::2], texts[1::2], strict=True):
        yield Asked(without_marker(question), answer.strip())
