"""Everything that a judge replied, kept raw: one JSON line a reply, never changed, and read again
on every start.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal.benchmarks.judge.budget import NONE, Tokens
from cotbal.benchmarks.judge.judge import Ask
from cotbal.jobs.rundir import append_jsonl

ATTEMPTS = 4  # replies without marks before a pair is left out: the first, and three more
BEST = 10.0
WORST_REFERENCE = 1.0  # scores are divided by the marks of the references
LONGEST_LINE = 100  # letters of a line that holds two marks

_NUMBER = r"(\d+(?:\.\d+)?)"
_SIGNS = r"[\s*_`()\[\]]*"  # some models set the marks in bold or in brackets
_MARKS = re.compile(rf"{_SIGNS}{_NUMBER}[\s*_`]*[\s,;]\s*[*_`]*{_NUMBER}{_SIGNS}\.?{_SIGNS}")


@dataclass(frozen=True)
class Marks:
    """What one reply gives the answer and its reference."""

    answer: float
    reference: float


@dataclass(frozen=True)
class Reply:
    """One line of the file.

    Attributes:
        key: of the request.
        id: of the record.
        model: the name that was asked for.
        text: the reply; None where there is none.
        lost: what became of a request that got no reply and may be charged all the same; empty
            otherwise.
        refused: what the endpoint said when it would not answer this request; empty otherwise.
        used: tokens as the endpoint counted them, or the worst case where it did not say.
        facts: what else is known: the model that answered, why the reply ended, where the reference
            stood, when.
    """

    key: str
    id: str
    model: str
    text: str | None
    lost: str
    refused: str
    used: Tokens
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The line."""
        usage = {"input": self.used.input, "output": self.used.output}
        words = {
            name: text for name, text in (("lost", self.lost), ("refused", self.refused)) if text
        }
        return {
            "key": self.key,
            "id": self.id,
            "model": self.model,
            "text": self.text,
            **words,
            "tokens": usage,
            **self.facts,
        }


def read_reply(line: Mapping[str, Any]) -> Reply:
    """The inverse of `Reply.to_json`."""
    own = {"key", "id", "model", "text", "lost", "refused", "tokens"}
    return Reply(
        line["key"],
        line["id"],
        line["model"],
        line["text"],
        line.get("lost", ""),
        line.get("refused", ""),
        Tokens(line["tokens"]["input"], line["tokens"]["output"]),
        {name: value for name, value in line.items() if name not in own},
    )


class Kept:
    """The replies of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._replies: dict[str, list[Reply]] = {}
        for reply in _read(path):
            self._replies.setdefault(reply.key, []).append(reply)

    def add(self, reply: Reply) -> None:
        """Write a reply down, then know it."""
        append_jsonl(self.path, reply.to_json())
        self._replies.setdefault(reply.key, []).append(reply)

    def marks(self, ask: Ask) -> Marks | None:
        """What the first readable reply says; None without one."""
        found = (
            read_marks(reply.text, ask.reference_first)
            for reply in self._of(ask)
            if reply.text is not None
        )
        return next((marks for marks in found if marks is not None), None)

    def settled(self, ask: Ask) -> bool:
        """Whether a request need not be sent again: it has marks, was refused, or was tried often
        enough.
        """
        replies = self._of(ask)
        tries = sum(reply.text is not None for reply in replies)
        return (
            tries >= ATTEMPTS
            or any(reply.refused for reply in replies)
            or self.marks(ask) is not None
        )

    def used(self, model: str) -> Tokens:
        """Everything that was asked of a model so far."""
        return sum((reply.used for reply in self._all(model)), NONE)

    def reply_length(self, model: str) -> float | None:
        """Mean tokens of a reply of a model; None before the first."""
        lengths = [reply.used.output for reply in self._all(model) if reply.text is not None]
        return sum(lengths) / len(lengths) if lengths else None

    def _of(self, ask: Ask) -> Sequence[Reply]:
        return self._replies.get(ask.key, ())

    def _all(self, model: str) -> list[Reply]:
        return [
            reply for replies in self._replies.values() for reply in replies if reply.model == model
        ]


def read_marks(text: str, reference_first: bool) -> Marks | None:
    """The marks in the first line of a reply that has any words: two numbers from 0 to 10, and
    nothing else.

    None when there are none, or when the reference gets less than 1, by which nothing can be
    divided.
    """
    first_line = next((line for line in text.splitlines() if line.strip()), "")
    found = _MARKS.fullmatch(first_line) if len(first_line) <= LONGEST_LINE else None
    if found is None:
        return None
    first, second = float(found[1]), float(found[2])
    marks = Marks(second, first) if reference_first else Marks(first, second)
    legal = marks.answer <= BEST and WORST_REFERENCE <= marks.reference <= BEST
    return marks if legal else None


def _read(path: Path) -> list[Reply]:
    """All whole lines; one that a kill cut off is ended, so that the next does not join it."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    if text and not text.endswith("\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
    found = []
    for line in text.split("\n"):
        try:
            found.append(read_reply(json.loads(line)))
        except (ValueError, KeyError, TypeError):
            continue  # half a line, or none
    return found
