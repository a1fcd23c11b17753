"""One request to an OpenAI-compatible endpoint: its reply, or why there is none."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from cotbal.benchmarks.judge.budget import Tokens
from cotbal.benchmarks.releases.rows import writable
from cotbal.errors import CotbalError, MissingDependency

SHOWN = 200  # characters of a server's message
SHORTEST_KEY = 8
# names in httpx and its successor
NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}
BUSY = {408, 409, 425, 429}
DENIED = {401, 402, 403, 404}
SERVER_ERRORS = 500

Kind = Literal["later", "lost", "rejected", "denied"]


@dataclass(frozen=True)
class Access:
    """Address of the judge, timeout and retries.

    Attributes:
        base_url: such as `https://host/v1`.
        key: sent with every request, and shown nowhere.
        timeout: seconds that a reply may take.
        retries: how often a request is sent again after an error that may pass.
        pause: seconds before the first of them, doubled for every further one.
    """

    base_url: str
    key: str = field(repr=False)
    timeout: float = 120.0
    retries: int = 6
    pause: float = 1.0


@dataclass(frozen=True)
class Answer:
    """A reply: its text, the tokens as the server counted them (None where it did not), and other
    facts.
    """

    text: str
    used: Tokens | None
    facts: Mapping[str, Any]


class NoReply(Exception):
    """Why there is no reply.

    Attributes:
        kind: `later`: retry; `lost`: retry, but the server may have charged; `rejected`: this
            request will never be answered; `denied`: none will be.
        wait: seconds until the retry, as the server wants; None where it does not say.
    """

    def __init__(self, kind: Kind, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.wait = wait


def check_url(text: str) -> str:
    """The address, which is written to files.

    Raises:
        CotbalError: it is no address, or holds a password or a query.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CotbalError(
            f"--base-url: expected an address such as https://host/v1; found {text!r}",
            "invalid-option",
        )
    if parts.username or parts.password or parts.query:
        raise CotbalError(
            "--base-url: expected an address without name, password or query: it is written down",
            "invalid-option",
        )
    return text.rstrip("/")


def check_key(text: str | None, variable: str) -> str:
    """The key in an environment variable.

    Raises:
        CotbalError: it is empty, or cannot be sent.
    """
    key = (text or "").strip()
    if not key:
        raise CotbalError(
            f"expected the key of the endpoint in the environment variable {variable}; found none"
            " (for a server that needs none, set it to any word)",
            "invalid-api-key",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CotbalError(
            f"expected a key of printable ASCII characters without spaces in {variable}; found"
            " others, which are not shown",
            "invalid-api-key",
        )
    return key


@asynccontextmanager
async def connect(access: Access) -> AsyncIterator[Endpoint]:
    """A connection without retries of the client.

    Raises:
        MissingDependency: the package `openai` is not installed.
    """
    try:
        from openai import AsyncOpenAI
    except ImportError:
        raise MissingDependency("judging", "judge") from None
    options = {"timeout": access.timeout, "max_retries": 0}
    async with AsyncOpenAI(base_url=access.base_url, api_key=access.key, **options) as client:
        yield Endpoint(access, client)


@dataclass(frozen=True)
class Endpoint:
    """Sends requests over one connection, without retries."""

    access: Access
    client: Any = field(repr=False)

    async def send(self, content: Mapping[str, Any]) -> Answer:
        """Send a request once.

        Raises:
            NoReply: nothing came back that could be a reply.
        """
        from openai import APIConnectionError, APIStatusError

        fields = dict(content)
        create = self.client.chat.completions.with_raw_response.create
        try:
            raw = await create(
                model=fields.pop("model"), messages=fields.pop("messages"), extra_body=fields
            )
        except APIStatusError as error:
            raise self._of_status(error.status_code, error.response) from None
        except APIConnectionError as error:
            raise self._of_connection(error) from None
        return self._read(raw.http_response.text)

    def _of_connection(self, error: Exception) -> NoReply:
        from openai import APITimeoutError

        never_sent = type(error.__cause__).__name__ in NEVER_SENT
        message = f"the connection failed ({error.__cause__ or error})"
        if isinstance(error, APITimeoutError):
            message = f"no reply within {self.access.timeout:g} s"
        return NoReply("later" if never_sent else "lost", self._shown(message))

    def _of_status(self, status: int, response: Any) -> NoReply:
        message = self._shown(f"{status}: {_message(response.text)}")
        if status in BUSY or status >= SERVER_ERRORS:
            return NoReply("later", message, _wait(response.headers.get("retry-after")))
        return NoReply("denied" if status in DENIED else "rejected", message)

    def _read(self, body: str) -> Answer:
        try:
            content = json.loads(body)
            choice = content["choices"][0]
            text = choice["message"].get("content")
            facts = {"answered_by": content.get("model"), "ended": choice.get("finish_reason")}
            used = _used(content.get("usage"))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            message = f"a reply that is no chat completion: {self._shown(body)}"
            raise NoReply("lost", message) from None
        clean_facts = {name: self._clean(fact) for name, fact in facts.items()}
        return Answer(self._clean(text) or "", used, clean_facts)

    def _clean(self, text: Any) -> str | None:
        """The text without the key, safe to write to a file; None for anything but text.

        A server may send the key back. A short key is a word in place of one (`none`, `EMPTY`).
        """
        if not isinstance(text, str):
            return None
        if len(self.access.key) >= SHORTEST_KEY:
            text = text.replace(self.access.key, "***")
        return writable(text)

    def _shown(self, text: str) -> str:
        line = " ".join((self._clean(text) or "").split())
        return line if len(line) <= SHOWN else f"{line[: SHOWN - 3]}..."


def _message(body: str) -> str:
    """The message in the body of an error, which servers put at different keys."""
    try:
        content = json.loads(body)
        inner = content.get("error", content)
        return str(inner.get("message", body)) if isinstance(inner, dict) else str(inner)
    except (ValueError, AttributeError):
        return body


def _wait(header: str | None) -> float | None:
    """Seconds; None for a date, which the header may hold too."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


def _used(usage: Any) -> Tokens | None:
    if not isinstance(usage, dict):
        return None
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    read, written = (c if type(c) is int and c >= 0 else None for c in counts)
    return None if read is None or written is None else Tokens(read, written)
