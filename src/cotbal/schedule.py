"""How long a set of runs takes on a number of GPUs: list scheduling, the longest run first."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from cotbal.errors import CotbalError


@dataclass(frozen=True)
class Piece:
    """One run as the schedule sees it.

    Attributes:
        seconds: how long it takes, in any unit of time.
        gpus: how many GPUs it holds all the while.
    """

    seconds: float
    gpus: int = 1


def schedule(pieces: Sequence[Piece], gpus: int) -> list[float]:
    """When every piece starts, in their order, if the longest goes first and each as soon as its GPUs are free.

    A shorter piece passes a longer one that still waits for more GPUs than are free. With one GPU a piece this is
    Graham's LPT rule, which ends within 4/3 - 1/(3 gpus) of the shortest possible time.

    Raises:
        CotbalError: a piece needs more GPUs than there are.
    """
    largest = max((piece.gpus for piece in pieces), default=0)
    if largest > gpus:
        raise CotbalError(f"expected GPUs enough for every run: one needs {largest}, and there are {gpus}")
    waiting = sorted(range(len(pieces)), key=lambda i: -pieces[i].seconds)
    starts = [0.0] * len(pieces)
    ends: list[tuple[float, int]] = []
    now, free = 0.0, gpus
    while waiting:
        for i in list(waiting):
            if pieces[i].gpus <= free:
                waiting.remove(i)
                starts[i] = now
                free -= pieces[i].gpus
                heapq.heappush(ends, (now + pieces[i].seconds, pieces[i].gpus))
        if waiting:
            now, freed = heapq.heappop(ends)
            free += freed
    return starts


def makespan(pieces: Sequence[Piece], gpus: int) -> float:
    """When the last piece of `schedule` ends."""
    starts = schedule(pieces, gpus)
    return max((start + piece.seconds for start, piece in zip(starts, pieces, strict=True)), default=0.0)


def lower_bound(pieces: Sequence[Piece], gpus: int) -> float:
    """No schedule ends before this: all work spread evenly over the GPUs, or the longest piece alone."""
    work = sum(piece.seconds * piece.gpus for piece in pieces)
    return max(work / gpus, max((piece.seconds for piece in pieces), default=0.0))
