"""How long the planned runs would take on a number of GPUs, from run times that were measured or
are estimated.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

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
        makespan: from the first start to the last end, without waiting for other people's jobs.
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


@dataclass(frozen=True)
class _Length:
    """Of a run: time in any unit, on a number of GPUs."""

    time: float
    gpus: int


def forecast(prepared: Prepared, gpus: int) -> Forecast:
    """List scheduling, the longest run first; finals that need weights start when all others have
    ended.

    Raises:
        CotbalError: a run needs more GPUs than `gpus`.
    """
    left = [planned for planned in prepared.plan.runs if not planned.paths.done]
    timed = all(planned.seconds is not None for planned in left)
    phases: list[list[_Length]] = [[], []]
    for planned in left:
        length = _length(prepared, planned, timed)
        if length.gpus > gpus:
            raise CotbalError(
                f"expected enough GPUs for every run: {planned.label} needs {length.gpus}, and"
                f" there are {gpus}",
                "too-few-gpus",
            )
        phases[takes_weights(planned.run.weighting)].append(length)
    return Forecast(
        gpus=gpus,
        timed=timed,
        makespan=sum(_makespan(phase, gpus) for phase in phases),
        bound=sum(_lower_bound(phase, gpus) for phase in phases),
        gpu_time=sum(length.time * length.gpus for phase in phases for length in phase),
        runs=len(left),
    )


def _length(prepared: Prepared, planned: Planned, timed: bool) -> _Length:
    processes = prepared.recipe_of(planned).resources.processes
    if timed:
        return _Length(float(planned.seconds or 0), processes)
    plan = prepared.plan
    final = plan.final_records * plan.epochs / prepared.recipe.resources.processes
    return _Length(planned.work(plan.epochs) / processes / final, processes)


def _makespan(runs: Sequence[_Length], gpus: int) -> float:
    """When the last run ends, if the longest that fits starts whenever GPUs are free.

    With one GPU per run this is Graham's LPT rule, which ends within 4/3 - 1/(3 gpus) of the
    shortest possible time.
    """
    waiting = sorted(runs, key=lambda run: -run.time)
    running: list[tuple[float, int]] = []  # end, GPUs
    now, free = 0.0, gpus
    while waiting:
        for run in list(waiting):
            if run.gpus <= free:
                waiting.remove(run)
                heapq.heappush(running, (now + run.time, run.gpus))
                free -= run.gpus
        if waiting:
            now, freed = heapq.heappop(running)
            free += freed
    return max((end for end, _ in running), default=0.0)


def _lower_bound(runs: Sequence[_Length], gpus: int) -> float:
    """All work divided evenly over the GPUs, or the longest run."""
    work = sum(run.time * run.gpus for run in runs)
    return max(work / gpus, max((run.time for run in runs), default=0.0))
