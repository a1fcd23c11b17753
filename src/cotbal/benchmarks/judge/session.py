"""Send requests until all are settled: a few at a time, retried after temporary errors, and never
past the cap.

The retries are ours and not those of the openai client, which repeats a request that timed out
without reporting it: the server may have charged it, so it must count against the cap.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cotbal.benchmarks.judge.budget import NONE, Budget, Tokens
from cotbal.benchmarks.judge.endpoint import Access, Endpoint, NoReply, connect
from cotbal.benchmarks.judge.judge import Request
from cotbal.benchmarks.judge.replies import Replies, Reply
from cotbal.errors import CotbalError, RunError

LONGEST_PAUSE = 120.0  # seconds
Step = Callable[[int, int], None]  # requests settled, of how many


@dataclass
class Session:
    """Sends requests and writes down every reply as it comes.

    The first error stops all workers, after the requests that are under way.

    Attributes:
        concurrency: requests under way at the same time, at most.
        step: is called after every settled request.
    """

    access: Access
    replies: Replies
    budget: Budget
    concurrency: int
    step: Step
    done: int = field(default=0, init=False)
    error: CotbalError | None = field(default=None, init=False)

    def settle(self, requests: Sequence[Request]) -> None:
        """Send the requests that are not settled yet.

        Raises:
            RunError: the endpoint does not answer, denies access, or the cap is reached; earlier
                replies are kept.
            MissingDependency: the package `openai` is not installed.
        """
        waiting = {r.key: r for r in requests if not self.replies.settled(r)}
        if waiting:
            asyncio.run(self._settle(list(waiting.values())))
        if self.error is not None:
            raise self.error

    async def _settle(self, requests: Sequence[Request]) -> None:
        self.stopped = asyncio.Event()
        waiting = iter(requests)
        async with connect(self.access) as endpoint:
            workers = range(min(self.concurrency, len(requests)))
            work = (self._work(waiting, endpoint, len(requests)) for _ in workers)
            await asyncio.gather(*work)

    async def _work(self, waiting: Iterator[Request], endpoint: Endpoint, total: int) -> None:
        for request in waiting:
            try:
                while not self.replies.settled(request) and self.error is None:
                    await self._send(request, endpoint)
            except CotbalError as error:
                self.error = self.error or error
                self.stopped.set()
            if self.error is not None:
                return
            self.done += 1
            self.step(self.done, total)

    async def _send(self, request: Request, endpoint: Endpoint) -> None:
        """Send a request until there is a reply, with a longer pause after every error that may
        pass.
        """
        for retry in range(self.access.retries + 1):
            try:
                return await self._send_once(request, endpoint)
            except NoReply as error:
                if error.kind in ("denied", "rejected"):
                    return self._rejected(request, error)
                last = error
            if retry < self.access.retries:
                await self._pause(last.wait, retry)
            if self.error is not None:
                return None
        raise RunError(
            f"{self.access.base_url}: no reply in {self.access.retries + 1} tries, at last {last};"
            " what was judged is kept; rerun the command to resume",
            "no-reply",
        )

    async def _send_once(self, request: Request, endpoint: Endpoint) -> None:
        await self.budget.reserve(request.worst)
        used = NONE
        try:
            answer = await endpoint.send(request.content)
            used = answer.used or request.worst
            self._keep(request, used, text=answer.text, **answer.facts)
        except NoReply as error:
            if error.kind == "lost":
                used = request.worst
                self._keep(request, used, lost=str(error))
            raise
        finally:
            await self.budget.settle(request.worst, used)

    def _rejected(self, request: Request, error: NoReply) -> None:
        """Leave a request out that the endpoint rejects for its content.

        Raises:
            RunError: access is denied; or no request was answered before, so that the settings are
                to blame.
        """
        model = request.content["model"]
        where = f"{self.access.base_url}, model {model}"
        if error.kind == "denied":
            raise RunError(
                f"{where}: access denied ({error}); check --model, --base-url and the key",
                "access-denied",
            )
        if self.replies.reply_length(model) is None:
            raise RunError(
                f"{where}: the first request was rejected ({error}); --field changes what is sent",
                "request-rejected",
            )
        self._keep(request, NONE, rejected=str(error))

    def _keep(self, request: Request, used: Tokens, text: str | None = None, **facts: Any) -> None:
        order = "first" if request.reference_first else "second"
        facts |= {"reference": order, "time": round(time.time(), 3)}
        reply = Reply(request.key, request.id, request.content["model"], text, used, facts)
        self.replies.add(reply)

    async def _pause(self, wait: float | None, retry: int) -> None:
        """As long as the server wants, otherwise twice as long every time, and not all workers at
        the same time.
        """
        if wait is None:
            wait = self.access.pause * 2**retry * random.uniform(0.75, 1.0)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopped.wait(), min(wait, LONGEST_PAUSE))
