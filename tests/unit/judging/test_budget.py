from __future__ import annotations

import asyncio

import pytest

from cotbal.benchmarks.judge.budget import Budget, CapReached, Prices, Tokens
from helpers.errors import raises

WORST, USED = Tokens(1000, 1000), Tokens(100, 100)
PRICES = Prices(1.0, 3.0)  # a worst request costs 0.004 $, a usual one 0.0004 $


def test_cost() -> None:
    assert Prices(2.5, 10).of(Tokens(2_000_000, 500_000)) == 10
    assert Budget(PRICES, spent=WORST).cost == pytest.approx(0.004)


def test_a_request_waits_for_those_under_way_and_the_cap_holds() -> None:
    budget = Budget(PRICES, 0.0085)
    under_way, most = 0, 0

    async def request() -> None:
        nonlocal under_way, most
        await budget.reserve(WORST)
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        await budget.settle(WORST, USED)

    async def all_of_them() -> None:
        await asyncio.gather(*(request() for _ in range(10)))

    asyncio.run(all_of_them())
    assert most == 2
    assert budget.cost == pytest.approx(0.004)


def test_a_request_that_cannot_fit_is_rejected() -> None:
    budget = Budget(PRICES, 0.005, spent=Tokens(2000, 0))
    with raises(CapReached, "cap-reached", "--max-usd 0.005", "0.0020", "0.0040"):
        asyncio.run(budget.reserve(WORST))
