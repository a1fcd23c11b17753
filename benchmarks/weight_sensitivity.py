"""How far does a test score move when its task's weight doubles? From the finals of `cotbal
compare` and `ablate`.

    python benchmarks/weight_sensitivity.py RUN

Every final model with fixed weights is a trial: EW, CoTBal, the parts of its weights, other
temperatures. Within a training seed all of them see the same data in the same order, so that they
differ in their weights (and in what the smallest change of a training does to its end). For each
task the relative change of its score is fitted to `slope * log2(weight)` with a level a seed; the
weights have mean 1, so one goes up only where others go down.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cotbal.report.contents import Contents, read_contents
from cotbal.report.formatting import number
from cotbal.report.models import models_of

# Student's t at 97.5 %, by degrees of freedom; in between, the entry for fewer is taken, which errs
# to the wide side.
T_975 = {
    2: 4.303,
    4: 2.776,
    6: 2.447,
    8: 2.306,
    10: 2.228,
    12: 2.179,
    15: 2.131,
    20: 2.086,
    25: 2.060,
    30: 2.042,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run directory")
    contents = read_contents(parser.parse_args().run)
    trials = weights_of(contents)
    models = models_of(contents)
    print(f"Trials: {', '.join(f'{name} ({len(models[name])} seeds)' for name in trials)}.\n")
    print(
        "| task | weights tried | change of the score when the weight doubles, % | seeds'"
        " noise, % |"
    )
    print("| :-- | --: | --: | --: |")
    for task in contents.balanced:
        doubled, change, seeds = points(contents, models, trials, task)
        slope, half, noise = fit(doubled, change, seeds)
        tried = f"{2 ** doubled.min():.2f} to {2 ** doubled.max():.2f}"
        print(
            f"| {task} | {tried} | {slope:+.2f} [{slope - half:+.2f}, {slope + half:+.2f}] |"
            f" {number(noise, 2)} |"
        )


def weights_of(contents: Contents) -> dict[str, dict[str, float]]:
    """Final run with weights that do not change -> task -> weight."""
    equal = {"ew": dict.fromkeys(contents.balanced, 1.0)}
    return equal | {
        run.name: dict(run.weights)
        for run in contents.finals
        if run.weights and run.status == "done"
    }


def points(
    contents: Contents, models: dict, trials: dict[str, dict[str, float]], task: str
) -> tuple[Float[np.ndarray, " trial"], Float[np.ndarray, " trial"], Float[np.ndarray, " trial"]]:
    """log2 of the weight, score in % of EW's mean over seeds, and seed of every trial."""
    assert contents.recipe is not None
    metric = contents.recipe.mixture[task].metric
    scores = {
        (name, seed): cells[task, "test"].metrics[metric].measured.score
        for name in trials
        for seed, cells in models[name].items()
    }
    level = np.mean([score for (name, _), score in scores.items() if name == "ew"])
    doubled = [np.log2(trials[name][task]) for name, _ in scores]
    return (
        np.array(doubled),
        100 * np.array(list(scores.values())) / level,
        np.array([seed for _, seed in scores]),
    )


def fit(
    x: Float[np.ndarray, " trial"],
    y: Float[np.ndarray, " trial"],
    seeds: Float[np.ndarray, " trial"],
) -> tuple[float, float, float]:
    """Least squares with a level a seed: the slope, half its 95 % interval, and the spread that it
    leaves.
    """
    x, y = (v - np.array([v[seeds == s].mean() for s in seeds]) for v in (x, y))
    slope = float(x @ y / (x @ x))
    freedom = len(x) - len(set(seeds)) - 1
    spread = float(np.sqrt(((y - slope * x) ** 2).sum() / freedom))
    t = next(
        (value for least, value in sorted(T_975.items(), reverse=True) if freedom >= least),
        float("nan"),
    )
    return slope, t * spread / float(np.sqrt(x @ x)), spread


if __name__ == "__main__":
    main()
