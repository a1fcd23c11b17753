"""Conversations about one image or none, as readers yield them, and their LLaVA records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cotbal.data.reading.record import IMAGE


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and its right answer, or all of its right answers when it is only evaluated
    on."""

    question: str
    answer: str | tuple[str, ...]


class Writable(Protocol):
    """A conversation that can be written to a split."""

    @property
    def images(self) -> tuple[str, ...]:
        """Names of its images below the root of images."""

    @property
    def pairs(self) -> int:
        """Pairs of question and answer."""

    def record(self, task: str) -> dict[str, Any]:
        """The content of its line in the file."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation about one image, or of text alone.

    Attributes:
        id: unique in its file.
        image: name of the image below the root of images, or None for a record of text alone.
        turns: at least one pair of question and answer; no question holds the image's marker.
        details: what else a metric may ask for, such as the category of a question.
    """

    id: str
    image: str | None
    turns: tuple[Asked, ...]
    details: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def images(self) -> tuple[str, ...]:
        """The one image, or none."""
        return () if self.image is None else (self.image,)

    @property
    def pairs(self) -> int:
        """Pairs of question and answer."""
        return len(self.turns)

    def record(self, task: str) -> dict[str, Any]:
        """The LLaVA record: the marker of the image is at the head of the first question, on
        its own line.
        """
        record: dict[str, Any] = {"id": self.id, "task": task, **self.details}
        if self.image is not None:
            record["image"] = self.image
        turns: list[dict[str, Any]] = []
        for asked in self.turns:
            head = f"{IMAGE}\n" if self.image is not None and not turns else ""
            answer = asked.answer if isinstance(asked.answer, str) else list(asked.answer)
            turns += [
                {"from": "human", "value": head + asked.question},
                {"from": "gpt", "value": answer},
            ]
        return {**record, "conversations": turns}
