"""What cannot be run here, simulated: the probes of seventeen tasks on 64 GPUs, some of which are
taken away.

    python benchmarks/makespan_simulation.py [--draws 1000]

The plan is cotbal's own, of the sizes of the Large Benchmark; so is the schedule. A run's real
length differs from the estimate that the order is made from by a log-normal factor of mean 1. A
preempted run loses what it did since its last checkpoint, comes back after a delay, and is then the
first in the queue.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from cotbal.benchmarks.large.sets import data_sets
from cotbal.benchmarks.large.settings import RECIPE
from cotbal.benchmarks.releases.paper import MODELS
from cotbal.jobs.plan import Planned
from cotbal.recipe.mixture import Mixture, Task
from cotbal.recipe.runs import cost, plan_probes, portion_size
from cotbal.recipe.schema import Portions
from cotbal.training.run_paths import RunPaths
from list_scheduling import Piece, lower_bound, makespan

ORDERS = ("longest first", "as planned", "by chance")


@dataclass(frozen=True)
class World:
    """What is assumed; times in hours.

    Attributes:
        gpus: of the cluster.
        a_run: GPUs of one run.
        pace: records that one GPU trains in an hour.
        scaling: speed of twice the GPUs over twice the speed.
        spread: standard deviation of the logarithm of real over estimated length.
        preempted: share of the runs that are preempted once, at a moment that is uniform in their
            length.
        checkpoint: between two checkpoints of a run.
        delay: between a preemption and the earliest new start, the loading of the model included.
    """

    gpus: int = 64
    a_run: int = 4
    pace: float = 3 * 3600
    scaling: float = 0.95
    spread: float = 0.3
    preempted: float = 0.05
    checkpoint: float = 0.5
    delay: float = 0.25

    def hours(self, records: float) -> float:
        """Estimated length of a run."""
        return float(records / (self.pace * self.a_run * self.scaling ** np.log2(self.a_run)))


@dataclass(frozen=True)
class Drawn:
    """One draw of what happens.

    Attributes:
        bound: no order ends before, in hours.
        spans: makespan of every order, in hours.
    """

    bound: float
    spans: dict[str, float]


def plan(grouped: bool, seeds: Sequence[int] = (0,)) -> list[Planned]:
    """The probes of the standard form over the Large Benchmark: one weight per group, as in the
    paper, or one per task.
    """
    sets = data_sets()
    portions = Portions(**yaml.safe_load(RECIPE.settings(next(iter(MODELS))))["portions"])
    rates = {"large": portions.large, "mini": portions.mini}
    sizes = {
        d.name: {name: portion_size(d.train, rate) for name, rate in rates.items()} for d in sets
    }
    answers = {d.name: d.validation // (2 if d.halved else 1) for d in sets}
    tasks = [
        Task(d.name, Path(), Path(), {}, d.metric, (), group=d.group if grouped else None)
        for d in sets
    ]
    planned = []
    for run in plan_probes(Mixture(tuple(tasks)), "standard", seeds=seeds):
        asked = sum(answers[task] for task in run.validation)
        planned.append(
            Planned(
                run, "probe", RunPaths(Path()), run.name, cost(run, sizes), None, asked, 0.0, None
            )
        )
    return planned


def draw(estimates: Sequence[float], world: World, rng: np.random.Generator) -> Drawn:
    """Real lengths and preemptions, and how long the runs then take in every order; `estimates` in
    hours.
    """
    pieces = pieces_of(estimates, world, rng)
    left = list(range(len(estimates), len(pieces)))  # of preempted runs: first in the queue
    orders = (
        sorted(range(len(estimates)), key=lambda i: -estimates[i]),
        list(range(len(estimates))),
        rng.permutation(len(estimates)).tolist(),
    )
    spans = {
        name: makespan(pieces, world.gpus, left + order)
        for name, order in zip(ORDERS, orders, strict=True)
    }
    return Drawn(lower_bound(pieces, world.gpus), spans)


def pieces_of(estimates: Sequence[float], world: World, rng: np.random.Generator) -> list[Piece]:
    """The runs with their real lengths, and behind them what is left of those that are
    preempted."""
    factors = rng.lognormal(-(world.spread**2) / 2, world.spread, len(estimates))
    pieces = [Piece(float(length), world.a_run) for length in np.asarray(estimates) * factors]
    taken, moments = rng.random(len(pieces)) < world.preempted, rng.random(len(pieces))
    for i in np.flatnonzero(taken).tolist():
        done, rest = cut(pieces[i].seconds, float(moments[i]), world.checkpoint)
        pieces[i] = replace(pieces[i], seconds=done)
        pieces.append(Piece(rest, world.a_run, i, world.delay))
    return pieces


def cut(length: float, moment: float, checkpoint: float) -> tuple[float, float]:
    """Hours until a preemption at the share `moment` of a run, and hours that are left from its
    last checkpoint.
    """
    done = length * moment
    return done, length - done // checkpoint * checkpoint


def spread(values: Sequence[float]) -> str:
    """Mean, and between which values 95 % of the draws lie."""
    low, high = np.quantile(values, [0.025, 0.975])
    return f"{np.mean(values):.2f} ({low:.2f} to {high:.2f})"


def longer(values: Sequence[float]) -> str:
    """Mean of relative differences, with its 95 % interval from the standard error."""
    mean, half = np.mean(values), 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{mean:+.1%} ({mean - half:+.1%} to {mean + half:+.1%})"


def row(title: str, planned: Sequence[Planned], world: World, draws: int) -> str:
    """One line of the table; the same seeds for every line."""
    estimates = [world.hours(p.work(1)) for p in planned]
    drawn = [draw(estimates, world, np.random.default_rng(seed)) for seed in range(draws)]
    ours = ORDERS[0]
    hours = spread([one.spans[ours] for one in drawn])
    over = spread([one.spans[ours] / one.bound for one in drawn])
    others = [
        longer([one.spans[name] / one.spans[ours] - 1 for one in drawn]) for name in ORDERS[1:]
    ]
    return f"| {title} | {len(planned)} | {world.a_run} | {hours} | {over} | {' | '.join(others)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    plans = {
        "one weight per task": plan(False),
        "one weight per task, 3 seeds": plan(False, (0, 1, 2)),
        "one weight per group": plan(True),
    }
    for title, planned in plans.items():
        works = [p.work(1) for p in planned]
        print(
            f"{title}: {len(planned)} runs, {sum(p.records for p in planned):,} records trained, ",
            end="",
        )
        print(
            f"{sum(p.answers for p in planned):,} answered, longest over mean"
            f" {max(works) / np.mean(works):.2f}"
        )
    print(f"\nn = {draws} draws, seeds 0 to {draws - 1}; {World()}\n")
    others = " | ".join(f"{name}, longer by" for name in ORDERS[1:])
    print(
        f"| plan | runs | GPUs per run | hours | over the bound | {others}"
        " |\n|---|---|---|---|---|---|---|"
    )
    for title, planned in plans.items():
        for a_run in (1, 2, 3, 4, 8, 16):
            print(row(title, planned, World(a_run=a_run), draws), flush=True)
    base = World(a_run=8)
    worlds = {
        "no spread": replace(base, spread=0.0),
        "spread 0.6": replace(base, spread=0.6),
        "nothing preempted": replace(base, preempted=0.0),
        "half preempted": replace(base, preempted=0.5),
        "a checkpoint every 2 h": replace(base, checkpoint=2.0),
    }
    for title, world in worlds.items():
        print(
            row(f"one weight per task, {title}", plans["one weight per task"], world, draws),
            flush=True,
        )


if __name__ == "__main__":
    main()
