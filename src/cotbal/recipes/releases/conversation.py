"""What a reader gives: conversations about one picture or none, and the LLaVA record that each becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cotbal.data.conversations import IMAGE


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and its right answer, or all of its right answers when it is only evaluated on."""

    question: str
    answer: str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One record to be.

    Attributes:
        id: unique in its file.
        image: name of the picture below the root of pictures, or None for a record of text alone.
        turns: at least one pair of question and answer; no question holds the picture's marker.
    """

    id: str
    image: str | None
    turns: tuple[Asked, ...]


def to_record(conversation: Conversation, task: str) -> dict[str, Any]:
    """The LLaVA record: the marker of the picture stands at the head of the first question, on a line of its own."""
    record: dict[str, Any] = {"id": conversation.id, "task": task}
    if conversation.image is not None:
        record["image"] = conversation.image
    turns: list[dict[str, Any]] = []
    for asked in conversation.turns:
        head = f"{IMAGE}\n" if conversation.image is not None and not turns else ""
        answer = asked.answer if isinstance(asked.answer, str) else list(asked.answer)
        turns += [{"from": "human", "value": head + asked.question}, {"from": "gpt", "value": answer}]
    return {**record, "conversations": turns}
