"""How long the planned runs would take on a number of GPUs, from run times that were measured or
are estimated.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cotbal.errors import CotbalError
from cotbal.jobs.plan import Planned, Prepared
from cotbal.weightings import takes_weights


@dataclass(frozen=True)
class Forecast:
    """What `cotbal plan --gpus N` predicts for the runs that are not done yet.

    Attributes:
        gpus: held at most at the same time.
        timed: whether times are seconds; otherwise they are in units of one final run on the GPUs
            that it asks for.
        makespan: from the first start to the last end. Waiting for other people's jobs is not in
            it.
        bound: no order of the runs ends before this.
        gpu_time: sum over the runs of time x GPUs.
        runs: how many are not done.
    """

    gpus: int
    timed: bool
    makespan: float
    bound: float
    gpu_time: float
    runs: int

    def to_json(self) -> dict[str, Any]:
        """As `cotbal plan --json` prints it."""
        return vars(self)


def forecast(prepared: Prepared, gpus: int) -> Forecast:
    """List scheduling, the longest first; finals that wait for weights begin when all others have
    ended.

    Raises:
        CotbalError: a run needs more GPUs than `gpus`.
    """
    left = [p for p in prepared.plan.runs if not p.paths.done]
    timed = all(p.seconds is not None for p in left)
    early = _pieces(prepared, [p for p in left if not takes_weights(p.run.weighting)], timed)
    late = _pieces(prepared, [p for p in left if takes_weights(p.run.weighting)], timed)
    return Forecast(
        gpus=gpus,
        timed=timed,
        makespan=makespan(early, gpus) + makespan(late, gpus),
        bound=lower_bound(early, gpus) + lower_bound(late, gpus),
        gpu_time=sum(piece.seconds * piece.gpus for piece in (*early, *late)),
        runs=len(left),
    )


@dataclass(frozen=True)
class Piece:
    """One run as the schedule sees it: `seconds` in any unit of time, on `gpus` GPUs."""

    seconds: float
    gpus: int


def makespan(pieces: Sequence[Piece], gpus: int) -> float:
    """When the last piece ends, if the longest that fits starts whenever GPUs are free.

    With one GPU per piece this is Graham's LPT rule, which ends within 4/3 - 1/(3 gpus) of the
    shortest possible time.

    Raises:
        CotbalError: a piece needs more GPUs than there are.
    """
    largest = max((piece.gpus for piece in pieces), default=0)
    if largest > gpus:
        raise CotbalError(
            f"expected GPUs enough for every run: one needs {largest}, and there are {gpus}"
        )
    waiting = sorted(pieces, key=lambda piece: -piece.seconds)
    running: list[tuple[float, int]] = []  # end, GPUs
    now, free = 0.0, gpus
    while waiting:
        for piece in list(waiting):
            if piece.gpus <= free:
                waiting.remove(piece)
                heapq.heappush(running, (now + piece.seconds, piece.gpus))
                free -= piece.gpus
        if waiting:
            now, freed = heapq.heappop(running)
            free += freed
    return max((end for end, _ in running), default=0.0)


def lower_bound(pieces: Sequence[Piece], gpus: int) -> float:
    """No schedule ends before this: all work spread evenly over the GPUs, or the longest piece."""
    work = sum(piece.seconds * piece.gpus for piece in pieces)
    return max(work / gpus, max((piece.seconds for piece in pieces), default=0.0))


def _pieces(prepared: Prepared, planned: Sequence[Planned], timed: bool) -> list[Piece]:
    plan = prepared.plan
    whole = plan.final_records * plan.epochs / prepared.recipe.resources.processes
    pieces = []
    for p in planned:
        processes = prepared.recipe_of(p).resources.processes
        length = float(p.seconds or 0) if timed else p.work(plan.epochs) / processes / whole
        pieces.append(Piece(length, processes))
    return pieces
