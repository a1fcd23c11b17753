"""How long the planned runs would take on a number of GPUs, from run times that were measured or
are estimated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cotbal.jobs.plan import Planned, Prepared
from cotbal.jobs.schedule import Piece, lower_bound, makespan


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
    late = [p for p in left if p.run.weighting == "cotbal"]
    stages = [
        _pieces(prepared, stage, timed) for stage in ([p for p in left if p not in late], late)
    ]
    pieces = [piece for stage in stages for piece in stage]
    return Forecast(
        gpus=gpus,
        timed=timed,
        makespan=sum(makespan(stage, gpus) for stage in stages),
        bound=sum(lower_bound(stage, gpus) for stage in stages),
        gpu_time=sum(piece.seconds * piece.gpus for piece in pieces),
        runs=len(pieces),
    )


def _pieces(prepared: Prepared, planned: Sequence[Planned], timed: bool) -> list[Piece]:
    plan = prepared.plan
    whole = plan.final_records * plan.epochs / prepared.recipe.resources.processes
    pieces = []
    for p in planned:
        processes = prepared.recipe_of(p).resources.processes
        length = float(p.seconds or 0) if timed else p.work(plan.epochs) / processes / whole
        pieces.append(Piece(length, processes))
    return pieces
