"""What "try random weights and keep the best" does by the fit of the trials, over many draws.

    python benchmarks/best_of_random.py benchmarks/results/data/steering_pocket_study

A draw takes 15 random weights (distributed as those of `steering.random_weights`) and equal ones:
16 runs, as many as `cotbal response` plans for 4 to 7 tasks. What a run measures is the change that
the fit of the full trials predicts, with the noise of one run. Kept is the run with the best
measured goal: of all runs, or of those whose other tasks are measured above the floor. Its gain is
what the fit predicts for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cotbal.response import Response, fit_response
from steering import RANDOM_STEP, table
from steering_measures import MEAN, names_of, read_study

COUNT, DRAWS, FLOOR = 15, 2000, -1.0


@dataclass(frozen=True)
class Kept:
    """What the kept weights do by the fit, in % of the scores at equal weights.

    Attributes:
        gain: of the goal, mean over draws.
        low, high: bounds of 95 % of the draws.
        equal: share of the draws that keep equal weights.
        harm: share of the draws with a guarded task below the floor.
    """

    gain: float
    low: float
    high: float
    equal: float
    harm: float


def best_of_random(
    response: Response, names: Sequence[str], floor: float | None, draws: int = DRAWS
) -> Kept:
    """Keep the best of random weights in each of many draws.

    Args:
        names: the tasks whose mean is the goal.
        floor: the least measured change of every other task, in %; None keeps without floors.
    """
    generator = np.random.default_rng(0)
    named = np.isin(response.scored, names)
    guarded = ~named & ~np.isin(response.scored, list(response.unmeasurable))
    kept = np.empty((draws, len(response.scored)))
    for row in kept:
        z = RANDOM_STEP * generator.standard_normal((COUNT, len(response.tasks)))
        equal = np.zeros((1, len(response.tasks)))
        true = response.changes(np.vstack([equal, z - z.mean(axis=1, keepdims=True)]))
        measured = true + response.noise * generator.standard_normal(true.shape)
        measured -= measured[0]
        goal = measured[:, named].mean(axis=1)
        if floor is not None:
            goal[(measured[:, guarded] < floor).any(axis=1)] = -np.inf
        row[:] = true[goal.argmax()]
    gains = kept[:, named].mean(axis=1)
    low, high = np.quantile(gains, (0.025, 0.975))
    below = (kept[:, guarded] < FLOOR).any(axis=1)
    unchanged = (kept == 0).all(axis=1)
    return Kept(gains.mean(), low, high, unchanged.mean(), below.mean())


def rows(folder: Path) -> Iterator[list[str]]:
    """By goal of a study, without floors and with them; all tasks count in the mean."""
    study = read_study(folder)
    response = fit_response(study.trials)
    for goal in study.predictions:
        for floor in (None,) if goal == MEAN else (None, FLOOR):
            kept = best_of_random(response, names_of(goal, response), floor)
            gain = f"{kept.gain:+.2f} [{kept.low:+.2f}, {kept.high:+.2f}]"
            floors = "none" if floor is None else f"{floor:g} %"
            yield [goal, floors, gain, f"{kept.equal:.0%}", f"{kept.harm:.0%}"]


if __name__ == "__main__":
    header = ["goal", "floors", "gain of the kept weights", "equal ones kept", "a task below -1 %"]
    print(table(header, list(rows(Path(sys.argv[1])))))
