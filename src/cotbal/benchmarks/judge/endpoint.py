"""One request to an OpenAI-compatible endpoint: its reply, or in plain words why there is none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit

from cotbal.benchmarks.judge.budget import Tokens
from cotbal.errors import CotbalError, MissingDependency

SHOWN = 200  # letters of what a server says
SHORTEST_KEY = 8
NEVER_SENT = {
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "UnsupportedProtocol",
}  # names in httpx and its successor
BUSY = {408, 409, 425, 429}
DENIED = {401, 402, 403, 404}
SERVER_FAULTS = 500

Kind = Literal["later", "lost", "refused", "denied"]


@dataclass(frozen=True)
class Access:
    """Where the judge is, and how patient we are.

    Attributes:
        base_url: such as `https://host/v1`.
        key: sent with every request, and shown nowhere.
        timeout: seconds that a reply may take.
        retries: how often a request is sent again after a fault that may pass.
        pause: seconds before the first of them, doubled for every further one.
    """

    base_url: str
    key: str = field(repr=False)
    timeout: float = 120.0
    retries: int = 6
    pause: float = 1.0


@dataclass(frozen=True)
class Answered:
    """What came back: the text, the tokens as the server counted them (None where it did not say),
    and other facts.
    """

    text: str
    used: Tokens | None
    facts: Mapping[str, Any]


class NoReply(Exception):
    """Why there is no reply.

    Attributes:
        kind: `later`: try again; `lost`: the same, but the server may have worked and charged;
            `refused`: this request will never be answered; `denied`: none will be.
        wait: seconds that the server asks to wait; None where it does not.
    """

    def __init__(self, kind: Kind, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.wait = wait


def check_url(text: str) -> str:
    """An address that may be written down.

    Raises:
        CotbalError: it is none, or holds a password or a query.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CotbalError(
            f"--base-url: expected an address such as https://host/v1; found {text!r}"
        )
    if parts.username or parts.password or parts.query:
        raise CotbalError(
            "--base-url: expected an address without name, password or query: it is written down"
        )
    return text.rstrip("/")


def check_key(text: str | None, variable: str) -> str:
    """The key in an environment variable.

    Raises:
        CotbalError: there is none, or it cannot be sent.
    """
    key = (text or "").strip()
    if not key:
        raise CotbalError(
            f"expected the key of the endpoint in the environment variable {variable}; found none"
            " (for a server that needs none, set it to any word)"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CotbalError(
            f"expected a key of plain letters and signs in {variable}; found others, which are not"
            " shown"
        )
    return key


class Endpoint:
    """A connection, to be used with `async with`."""

    def __init__(self, access: Access) -> None:
        try:
            from openai import AsyncOpenAI
        except ImportError:
            raise MissingDependency("judging", "judge") from None
        self._access = access
        # Retries are ours, because a request that timed out may have to be paid for and counts
        # against the cap.
        self._client = AsyncOpenAI(
            base_url=access.base_url, api_key=access.key, timeout=access.timeout, max_retries=0
        )

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()

    async def ask(self, request: Mapping[str, Any]) -> Answered:
        """Send a request once.

        Raises:
            NoReply: nothing came back that could be a reply.
        """
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        fields = {
            name: value for name, value in request.items() if name not in ("model", "messages")
        }
        create = self._client.chat.completions.with_raw_response.create
        try:
            raw = await create(
                model=request["model"], messages=request["messages"], extra_body=fields
            )
        except APIStatusError as error:
            raise self._of_status(error.status_code, error.response) from None
        except APITimeoutError as error:
            kind: Kind = "later" if _was_never_sent(error) else "lost"
            raise NoReply(kind, f"no reply within {self._access.timeout:g} s") from None
        except APIConnectionError as error:
            kind = "later" if _was_never_sent(error) else "lost"
            raise NoReply(
                kind, self._shown(f"the connection failed ({error.__cause__ or error})")
            ) from None
        return self._read(raw.http_response.text)

    def _of_status(self, status: int, response: Any) -> NoReply:
        message = self._shown(f"{status}: {_words(response.text)}")
        if status in BUSY or status >= SERVER_FAULTS:
            return NoReply("later", message, _wait(response.headers.get("retry-after")))
        return NoReply("denied" if status in DENIED else "refused", message)

    def _read(self, body: str) -> Answered:
        try:
            content = json.loads(body)
            choice = content["choices"][0]
            text = choice["message"].get("content")
            facts = {"answered_by": content.get("model"), "ended": choice.get("finish_reason")}
            used = _used(content.get("usage"))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise NoReply(
                "lost", f"a reply that is no chat completion: {self._shown(body)}"
            ) from None
        return Answered(
            self._clean(text) or "", used, {name: self._clean(fact) for name, fact in facts.items()}
        )

    def _clean(self, text: Any) -> str | None:
        """A text that may be written down; None for what is no text."""
        if not isinstance(text, str):
            return None
        return (
            self._without_key(text).encode("utf-8", "replace").decode("utf-8")
        )  # half a surrogate is no UTF-8

    def _shown(self, text: str) -> str:
        line = " ".join((self._clean(text) or "").split())
        return line if len(line) <= SHOWN else f"{line[: SHOWN - 3]}..."

    def _without_key(self, text: str) -> str:
        """A server may send the key back. What is short stands for no key (`none`, `EMPTY`), and
        may be any word.
        """
        key = self._access.key
        return text.replace(key, "***") if len(key) >= SHORTEST_KEY else text


def _was_never_sent(error: Exception) -> bool:
    return type(error.__cause__).__name__ in NEVER_SENT


def _words(body: str) -> str:
    """The message in the body of an error, which servers put in different places."""
    try:
        content = json.loads(body)
        inner = content.get("error", content)
        return str(inner.get("message", body)) if isinstance(inner, dict) else str(inner)
    except (ValueError, AttributeError):
        return body


def _wait(header: str | None) -> float | None:
    """Seconds; a date, which the header may hold too, is no number and leaves the waiting to us."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


def _used(usage: Any) -> Tokens | None:
    if not isinstance(usage, dict):
        return None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    read, written = (count if type(count) is int and count >= 0 else None for count in counts)
    return None if read is None or written is None else Tokens(read, written)
