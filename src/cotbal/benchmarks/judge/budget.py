"""What judging costs, and a cap that no request can exceed."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from cotbal.errors import RunError

# English has more bytes per token, most other scripts about as many: the estimate is rather high
BYTES_PER_TOKEN = 3
REPLY = 256  # expected tokens of a reply, before the first: two ratings and a few sentences


class CapReached(RunError):
    """The next request could exceed the cap."""

    default_code = "cap-reached"


@dataclass(frozen=True)
class Tokens:
    """Numbers of tokens that a model reads and writes."""

    input: float
    output: float

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.input + other.input, self.output + other.output)


NONE = Tokens(0, 0)


@dataclass(frozen=True)
class Prices:
    """US dollars per million tokens, as the user states them."""

    input: float = 0.0
    output: float = 0.0

    @property
    def known(self) -> bool:
        """Whether anything costs money."""
        return self.input > 0 or self.output > 0

    def of(self, tokens: Tokens) -> float:
        """Cost in US dollars."""
        return (self.input * tokens.input + self.output * tokens.output) / 1e6


class Budget:
    """Money that was spent and money that requests under way may still cost.

    A request starts only when the cap would hold even if all requests under way cost their worst.
    So the cap is never exceeded, unless a server charges more tokens than the prompt has bytes.
    """

    def __init__(self, prices: Prices, cap: float = math.inf, spent: Tokens = NONE) -> None:
        self.prices = prices
        self.cap = cap
        self.spent = spent
        self._open: list[Tokens] = []
        self._changed = asyncio.Condition()

    @property
    def cost(self) -> float:
        """US dollars spent."""
        return self.prices.of(self.spent)

    async def reserve(self, worst: Tokens) -> None:
        """Wait until a request fits under the cap.

        Raises:
            CapReached: it does not fit, and no request is under way.
        """
        async with self._changed:
            while self.prices.of(sum([*self._open, worst], self.spent)) > self.cap:
                if not self._open:
                    raise CapReached(
                        f"--max-usd {self.cap:g} is reached: {self.cost:.4f} are spent, and the"
                        f" next request could cost {self.prices.of(worst):.4f}"
                    )
                await self._changed.wait()
            self._open.append(worst)

    async def settle(self, worst: Tokens, used: Tokens) -> None:
        """Replace the worst case of a request by what it used."""
        async with self._changed:
            self._open.remove(worst)
            self.spent += used
            self._changed.notify_all()
