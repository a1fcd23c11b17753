"""The judge: what is sent for a pair, and the name under which the reply is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cotbal.benchmarks.judge.budget import BYTES_A_TOKEN, Tokens
from cotbal.benchmarks.judge.pairs import Pair
from cotbal.benchmarks.judge.prompts import Prompt
from cotbal.errors import CotbalError

FIELDS: Mapping[str, Any] = {"temperature": 0.2, "max_tokens": 1024}  # of the protocol
LIMITS = ("max_completion_tokens", "max_tokens")
MESSAGE_OVERHEAD = 16  # tokens that a server may add around a message


@dataclass(frozen=True)
class Ask:
    """One request.

    Attributes:
        key: hash of the request: model, prompt, question, both answers and their order.
        request: what is sent.
        id: of the record.
        reference_first: whether the reference is Assistant 1.
        worst: tokens that it cannot pass: one a byte of the prompt, and the longest reply.
    """

    key: str
    request: Mapping[str, Any]
    id: str
    reference_first: bool
    worst: Tokens

    def expected(self, reply: float) -> Tokens:
        """Tokens that it will use about, when replies have `reply` tokens on the average."""
        return Tokens(self.worst.input / BYTES_A_TOKEN, min(reply, self.worst.output))


@dataclass(frozen=True)
class Judge:
    """Who judges, and how.

    Attributes:
        model: its name at the endpoint.
        base_url: the endpoint; it is noted, but another address of the same model is no other
            judge.
        prompt: what it is asked.
        fields: further fields of a request; None stands for a field that is not sent.
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
                f"--field: expected {' or '.join(LIMITS)} with a whole number, or nobody knows what"
                f" a reply may cost; found {limits[0] if limits else 'neither'}"
            )
        return int(limits[0])

    def asks(self, pair: Pair) -> tuple[Ask, ...]:
        """The requests for one pair: the reference first, as in the protocol, and with `swap` the
        other way too.
        """
        return tuple(self._ask(pair, first) for first in ((True, False) if self.swap else (True,)))

    def _ask(self, pair: Pair, reference_first: bool) -> Ask:
        first, second = (
            (pair.reference, pair.answer) if reference_first else (pair.answer, pair.reference)
        )
        messages = self.prompt.messages(
            pair.rule, context=pair.context, question=pair.question, first=first, second=second
        )
        sent = {name: value for name, value in self.fields.items() if value is not None}
        request = {"model": self.model, "messages": messages, **sent}
        text = json.dumps(request, sort_keys=True, ensure_ascii=False)
        size = sum(len(message["content"].encode()) + MESSAGE_OVERHEAD for message in messages)
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        return Ask(key, request, pair.id, reference_first, Tokens(size, self.longest))

    def to_json(self) -> dict[str, Any]:
        """What `settings.json` holds."""
        return {
            "model": self.model,
            "base_url": self.base_url,
            "fields": dict(self.fields),
            "swap": self.swap,
            "prompt": self.prompt.to_json(),
        }


def read_judge(content: Mapping[str, Any]) -> Judge:
    """The inverse of `Judge.to_json`."""
    return Judge(
        content["model"],
        content["base_url"],
        Prompt(**content["prompt"]),
        content["fields"],
        content["swap"],
    )
