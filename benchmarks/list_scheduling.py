"""How long a set of runs takes on a number of GPUs: list scheduling, the longest run first unless
given another order.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from cotbal.errors import CotbalError


@dataclass(frozen=True)
class Piece:
    """One run as the schedule sees it, or what is left of one that was preempted.

    Attributes:
        seconds: how long it takes, in any unit of time.
        gpus: how many GPUs it holds all the while.
        after: place in the list of the piece that has to end before, or None.
        delay: between the end of that piece and the earliest start of this one.
    """

    seconds: float
    gpus: int = 1
    after: int | None = None
    delay: float = 0.0


def schedule(pieces: Sequence[Piece], gpus: int, order: Sequence[int] | None = None) -> list[float]:
    """When every piece starts, in their order, if each starts as soon as its GPUs are free and it
    is next in `order`.

    A later piece passes an earlier one that still waits for more GPUs than are free. With one GPU a
    piece and the longest first this is Graham's LPT rule, which ends within 4/3 - 1/(3 gpus) of the
    shortest possible time.

    Args:
        order: places of the pieces, those that go first in front; the longest first by default.

    Raises:
        CotbalError: a piece needs more GPUs than there are.
    """
    largest = max((piece.gpus for piece in pieces), default=0)
    if largest > gpus:
        raise CotbalError(
            f"expected enough GPUs for every run: one needs {largest}, and there are {gpus}",
            "too-few-gpus",
        )
    waiting = (
        sorted(range(len(pieces)), key=lambda i: -pieces[i].seconds)
        if order is None
        else list(order)
    )
    ready = [0.0 if piece.after is None else math.inf for piece in pieces]
    starts = [0.0] * len(pieces)
    events: list[
        tuple[float, int]
    ] = []  # moments to look again, and the GPUs that are free from then on
    now, free = 0.0, gpus
    while waiting:
        for i in list(waiting):
            if pieces[i].gpus <= free and ready[i] <= now:
                waiting.remove(i)
                starts[i], end = now, now + pieces[i].seconds
                free -= pieces[i].gpus
                heapq.heappush(events, (end, pieces[i].gpus))
                for k, piece in enumerate(pieces):
                    if piece.after == i:
                        ready[k] = end + piece.delay
                        heapq.heappush(events, (ready[k], 0))
        if waiting:
            now, freed = heapq.heappop(events)
            free += freed
    return starts


def makespan(pieces: Sequence[Piece], gpus: int, order: Sequence[int] | None = None) -> float:
    """When the last piece of `schedule` ends."""
    starts = schedule(pieces, gpus, order)
    return max(
        (start + piece.seconds for start, piece in zip(starts, pieces, strict=True)), default=0.0
    )


def lower_bound(pieces: Sequence[Piece], gpus: int) -> float:
    """No schedule ends before this: all work spread evenly over the GPUs, or the longest chain of
    pieces alone.
    """
    work = sum(piece.seconds * piece.gpus for piece in pieces)
    return max(work / gpus, makespan(pieces, sum(piece.gpus for piece in pieces)))
