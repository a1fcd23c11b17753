"""How long the planned runs would take on a number of GPUs, from run times that were measured or
are estimated.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from cotbal.errors import CotbalError
from cotbal.jobs.executors.processes import visible_gpus
from cotbal.jobs.launching import is_launched
from cotbal.jobs.plan import Planned, Prepared
from cotbal.weightings import takes_weights

Length = tuple[float, int]  # of a run: time in any unit, GPUs


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


def forecast(prepared: Prepared, gpus: int) -> Forecast:
    """List scheduling, the longest run first; finals that need weights start when all others have
    ended.

    Raises:
        CotbalError: a run needs more GPUs than `gpus`.
    """
    left = [planned for planned in prepared.plan.runs if not planned.paths.done]
    timed = all(planned.seconds is not None for planned in left)
    phases: list[list[Length]] = [[], []]
    for planned in left:
        time, needed = _length(prepared, planned, timed)
        if needed > gpus:
            raise CotbalError(
                f"expected enough GPUs for every run: {planned.label} needs {needed}, and there are"
                f" {gpus}",
                "too-few-gpus",
            )
        last = planned.kind == "final" and takes_weights(planned.run.weighting)
        phases[last].append((time, needed))
    return Forecast(
        gpus=gpus,
        timed=timed,
        makespan=sum(_makespan(phase, gpus) for phase in phases),
        bound=sum(_lower_bound(phase, gpus) for phase in phases),
        gpu_time=sum(time * needed for phase in phases for time, needed in phase),
        runs=len(left),
    )


def shares_answers(prepared: Prepared, executor: str) -> bool:
    """Whether workers without a run left will help to answer the questions of the last runs, as far
    as it is known before anything has run; runs on a GPU answer alone.
    """
    answering = [planned for planned in prepared.plan.runs if planned.answers]
    needs = [prepared.recipe_of(planned).resources for planned in answering]
    alone = any(is_launched(need) or need.dataloader_workers for need in needs)
    return executor == "processes" and bool(needs) and not alone and not visible_gpus()


def _length(prepared: Prepared, planned: Planned, timed: bool) -> Length:
    processes = prepared.recipe_of(planned).resources.processes
    if timed:
        return float(planned.seconds or 0), processes
    plan = prepared.plan
    final = plan.final_records * plan.epochs / prepared.recipe.resources.processes
    return planned.work(plan.epochs) / processes / final, processes


def _makespan(runs: Sequence[Length], gpus: int) -> float:
    """When the last run ends, if the longest that fits starts whenever GPUs are free.

    With one GPU per run this is Graham's LPT rule, which ends within 4/3 - 1/(3 gpus) of the
    shortest possible time.
    """
    waiting = sorted(runs, reverse=True)
    running: list[tuple[float, int]] = []  # end, GPUs
    now, free = 0.0, gpus
    while waiting:
        for time, needed in list(waiting):
            if needed <= free:
                waiting.remove((time, needed))
                heapq.heappush(running, (now + time, needed))
                free -= needed
        if waiting:
            now, freed = heapq.heappop(running)
            free += freed
    return max((end for end, _ in running), default=0.0)


def _lower_bound(runs: Sequence[Length], gpus: int) -> float:
    """All work divided evenly over the GPUs, or the longest run."""
    work = sum(time * needed for time, needed in runs)
    return max(work / gpus, max((time for time, _ in runs), default=0.0))
