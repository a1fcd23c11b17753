"""Ask until every request is settled: a few at a time, again after what may pass, and never past
the cap.
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
from cotbal.benchmarks.judge.endpoint import Access, Endpoint, NoReply
from cotbal.benchmarks.judge.judge import Ask
from cotbal.benchmarks.judge.kept import Kept, Reply
from cotbal.errors import CotbalError, RunError

LONGEST_PAUSE = 120.0
Step = Callable[[int, int], None]  # requests settled, of how many


def ask_all(
    asks: Sequence[Ask], kept: Kept, access: Access, budget: Budget, concurrency: int, step: Step
) -> None:
    """Send what is not settled yet; every reply is written down as it comes.

    Args:
        concurrency: requests under way at the same time, at most.

    Raises:
        RunError: the endpoint does not answer, denies access, or the cap is reached; what came
            until then is kept.
        MissingDependency: the package `openai` is not installed.
    """
    open_asks = list({ask.key: ask for ask in asks if not kept.settled(ask)}.values())
    if open_asks:
        asyncio.run(_ask_all(open_asks, kept, access, budget, concurrency, step))


async def _ask_all(
    asks: Sequence[Ask], kept: Kept, access: Access, budget: Budget, concurrency: int, step: Step
) -> None:
    async with Endpoint(access) as endpoint:
        session = _Session(endpoint, access, kept, budget, step, len(asks))
        waiting = iter(asks)
        await asyncio.gather(*(session.work(waiting) for _ in range(min(concurrency, len(asks)))))
    if session.fault is not None:
        raise session.fault


@dataclass
class _Session:
    """What the workers share. The first fault stops all of them, after the requests that are under
    way.
    """

    endpoint: Endpoint
    access: Access
    kept: Kept
    budget: Budget
    step: Step
    total: int
    done: int = 0
    fault: CotbalError | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self, waiting: Iterator[Ask]) -> None:
        """Take one request after the other."""
        for ask in waiting:
            try:
                while not self.kept.settled(ask) and self.fault is None:
                    await self._try(ask)
            except CotbalError as fault:
                self.fault = self.fault or fault
                self.stopped.set()
            if self.fault is not None:
                return
            self.done += 1
            self.step(self.done, self.total)

    async def _try(self, ask: Ask) -> None:
        """Send a request until something comes back; a fault that may pass is waited out, longer
        every time.
        """
        for retry in range(self.access.retries + 1):
            try:
                return await self._once(ask)
            except NoReply as why:
                if why.kind in ("denied", "refused"):
                    return self._turned_down(ask, why)
                last = why
            if retry < self.access.retries:
                await self._pause(last.wait, retry)
            if self.fault is not None:
                return None
        raise RunError(
            f"{self.access.base_url}: no reply in {self.access.retries + 1} tries, at last {last};"
            " what was judged is kept; rerun the command to resume"
        )

    async def _once(self, ask: Ask) -> None:
        await self.budget.reserve(ask.worst)
        used = NONE
        try:
            answered = await self.endpoint.ask(ask.request)
            used = answered.used or ask.worst
            self._keep(ask, used, text=answered.text, **answered.facts)
        except NoReply as why:
            if why.kind == "lost":
                used = ask.worst
                self._keep(ask, used, lost=str(why))
            raise
        finally:
            await self.budget.settle(ask.worst, used)

    def _turned_down(self, ask: Ask, why: NoReply) -> None:
        """One request may be refused, for what it holds; before anything was answered, the fault is
        ours.
        """
        where = f"{self.access.base_url}, model {ask.request['model']}"
        if why.kind == "denied":
            raise RunError(
                f"{where}: access denied ({why}); see to --model, --base-url and the key"
            )
        if self.kept.reply_length(ask.request["model"]) is None:
            raise RunError(
                f"{where}: the first request was refused ({why}); --field changes what is sent"
            )
        self._keep(ask, NONE, refused=str(why))

    def _keep(
        self,
        ask: Ask,
        used: Tokens,
        text: str | None = None,
        lost: str = "",
        refused: str = "",
        **facts: Any,
    ) -> None:
        facts |= {
            "reference": "first" if ask.reference_first else "second",
            "time": round(time.time(), 3),
        }
        self.kept.add(
            Reply(ask.key, ask.id, ask.request["model"], text, lost, refused, used, facts)
        )

    async def _pause(self, asked: float | None, retry: int) -> None:
        """As long as the server asks, otherwise twice as long every time, and not all workers at
        once.
        """
        own = self.access.pause * 2**retry * random.uniform(0.75, 1.0)
        with suppress(TimeoutError):
            await asyncio.wait_for(
                self.stopped.wait(), min(own if asked is None else asked, LONGEST_PAUSE)
            )
