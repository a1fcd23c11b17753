"""The judge: the request for a pair, and the key under which the reply is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cotbal.benchmarks.judge.budget import BYTES_PER_TOKEN, Tokens
from cotbal.benchmarks.judge.pairs import Pair
from cotbal.benchmarks.judge.prompts import Prompt
from cotbal.errors import CotbalError

FIELDS: Mapping[str, Any] = {"temperature": 0.2, "max_tokens": 1024}  # of the protocol
LIMITS = ("max_completion_tokens", "max_tokens")
MESSAGE_OVERHEAD = 16  # tokens that a server may add around a message


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        key: hash of the request: model, prompt, question, both answers and their order.
        content: what is sent.
        id: of the record.
        reference_first: whether the reference is Assistant 1.
        worst: tokens that it cannot exceed: one per byte of the prompt, and the longest reply.
    """

    key: str
    content: Mapping[str, Any]
    id: str
    reference_first: bool
    worst: Tokens

    def expected(self, reply: float) -> Tokens:
        """Tokens that it will use about, for replies of `reply` tokens on average."""
        return Tokens(self.worst.input / BYTES_PER_TOKEN, min(reply, self.worst.output))


@dataclass(frozen=True)
class Judge:
    """Who judges, and how.

    Attributes:
        model: its name at the endpoint.
        base_url: the endpoint; it is recorded, but the same model at another address is the same
            judge.
        prompt: texts of the request.
        fields: further fields of a request; a field that is None is not sent.
        swap: whether every pair is judged in both orders.
    """

    model: str
    base_url: str
    prompt: Prompt
    fields: Mapping[str, Any]
    swap: bool

    @property
    def longest(self) -> int:
        """The longest reply that it may give, in tokens.

        Raises:
            CotbalError: the request sets no such limit.
        """
        limits = [self.fields[name] for name in LIMITS if self.fields.get(name) is not None]
        if not limits or type(limits[0]) is not int or limits[0] < 1:
            raise CotbalError(
                f"--field: expected {' or '.join(LIMITS)} with a whole number, which limits the"
                f" cost of a reply; found {limits[0] if limits else 'neither'}",
                "invalid-option",
            )
        return int(limits[0])

    def requests(self, pair: Pair) -> tuple[Request, ...]:
        """The requests for one pair: the reference first, as in the protocol, and with `swap` the
        other way too.
        """
        orders = (True, False) if self.swap else (True,)
        return tuple(self._request(pair, reference_first) for reference_first in orders)

    def _request(self, pair: Pair, reference_first: bool) -> Request:
        first, second = pair.reference, pair.answer
        if not reference_first:
            first, second = second, first
        messages = self.prompt.messages(
            pair.rule, context=pair.context, question=pair.question, first=first, second=second
        )
        sent = {name: value for name, value in self.fields.items() if value is not None}
        content = {"model": self.model, "messages": messages, **sent}
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        size = sum(len(message["content"].encode()) + MESSAGE_OVERHEAD for message in messages)
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        return Request(key, content, pair.id, reference_first, Tokens(size, self.longest))

    def to_json(self) -> dict[str, Any]:
        """Content of `settings.json`."""
        return asdict(self)


def read_judge(content: Mapping[str, Any]) -> Judge:
    """The inverse of `Judge.to_json`."""
    return Judge(**{**content, "prompt": Prompt(**content["prompt"])})
