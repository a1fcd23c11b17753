"""Every reply of a judge, kept raw: one JSON line per reply with its digest, never changed, and
read again on every start.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotbal.benchmarks.judge.budget import NONE, Tokens
from cotbal.benchmarks.judge.judge import Request
from cotbal.data.files import append_jsonl
from cotbal.errors import RunError
from cotbal.scores.sealed import sealed, unsealed

ATTEMPTS = 4  # replies without ratings before a pair is left out: the first, and three more
BEST = 10.0
WORST_REFERENCE = 1.0  # scores are divided by the ratings of the references
LONGEST_LINE = 100  # characters of a line that holds two ratings

_NUMBER = r"(\d+(?:\.\d+)?)"
_SIGNS = r"[\s*_`()\[\]]*"  # some models set the ratings in bold or in brackets
_RATINGS = re.compile(rf"{_SIGNS}{_NUMBER}[\s*_`]*[\s,;]\s*[*_`]*{_NUMBER}{_SIGNS}\.?{_SIGNS}")


@dataclass(frozen=True)
class Ratings:
    """What one reply gives the answer and its reference, 0 to 10."""

    answer: float
    reference: float


@dataclass(frozen=True)
class Reply:
    """One line of the file.

    Attributes:
        key: of the request.
        id: of the record.
        model: the name in the request.
        text: the reply; None where there is none.
        used: tokens as the endpoint counted them, or the worst case where it did not.
        facts: what else is known: the model that answered, why the reply ended, the position of the
            reference, when. `lost`: why a request that may be charged got no reply. `rejected`: why
            the endpoint will never answer this request.
    """

    key: str
    id: str
    model: str
    text: str | None
    used: Tokens
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Content of the line."""
        return {
            "key": self.key,
            "id": self.id,
            "model": self.model,
            "text": self.text,
            "tokens": {"input": self.used.input, "output": self.used.output},
            **self.facts,
        }


def read_reply(line: Mapping[str, Any]) -> Reply:
    """The inverse of `Reply.to_json`."""
    facts = dict(line)
    key, identity, model, text, tokens = map(facts.pop, ("key", "id", "model", "text", "tokens"))
    return Reply(key, identity, model, text, Tokens(tokens["input"], tokens["output"]), facts)


class Replies:
    """The replies of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._replies: dict[str, list[Reply]] = {}
        for reply in _read(path):
            self._replies.setdefault(reply.key, []).append(reply)

    def add(self, reply: Reply) -> None:
        """Append a reply to the file."""
        append_jsonl(self.path, sealed(reply.to_json()))
        self._replies.setdefault(reply.key, []).append(reply)

    def ratings(self, request: Request) -> Ratings | None:
        """Those of the first reply that has any; None without one."""
        for reply in self._of(request):
            ratings = read_ratings(reply.text or "", request.reference_first)
            if ratings is not None:
                return ratings
        return None

    def settled(self, request: Request) -> bool:
        """Whether a request need not be sent again: it has ratings, was rejected, or was tried
        often enough.
        """
        replies = self._of(request)
        tries = sum(reply.text is not None for reply in replies)
        rejected = any("rejected" in reply.facts for reply in replies)
        return tries >= ATTEMPTS or rejected or self.ratings(request) is not None

    def used(self, model: str) -> Tokens:
        """Tokens of all requests to a model so far."""
        return sum((reply.used for reply in self._by(model)), NONE)

    def reply_length(self, model: str) -> float | None:
        """Mean tokens of a reply of a model; None before the first."""
        lengths = [reply.used.output for reply in self._by(model) if reply.text is not None]
        return sum(lengths) / len(lengths) if lengths else None

    def _of(self, request: Request) -> Sequence[Reply]:
        return self._replies.get(request.key, ())

    def _by(self, model: str) -> list[Reply]:
        replies = (reply for of_request in self._replies.values() for reply in of_request)
        return [reply for reply in replies if reply.model == model]


def read_ratings(text: str, reference_first: bool) -> Ratings | None:
    """The ratings in the first line of a reply that is not empty: two numbers from 0 to 10, and
    nothing else.

    None when there are none, or when the reference gets less than 1, by which nothing can be
    divided.
    """
    first_line = next((line for line in text.splitlines() if line.strip()), "")
    numbers = _RATINGS.fullmatch(first_line) if len(first_line) <= LONGEST_LINE else None
    if numbers is None:
        return None
    first, second = float(numbers[1]), float(numbers[2])
    ratings = Ratings(second, first) if reference_first else Ratings(first, second)
    valid = ratings.answer <= BEST and WORST_REFERENCE <= ratings.reference <= BEST
    return ratings if valid else None


def _read(path: Path) -> list[Reply]:
    """All whole lines; one that a kill cut off is ended, so that the next does not join it."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    if text and not text.endswith("\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
    replies = []
    for line in text.split("\n"):
        try:
            replies.append(read_reply(unsealed(json.loads(line), path)))
        except (ValueError, KeyError, TypeError, RunError):
            continue  # half a line, none, or one that was changed: its pair is judged again
    return replies
