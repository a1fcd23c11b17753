"""`curve`: score against the fraction of the training data (Fig. 1b), run by the same workers."""

from __future__ import annotations

from collections.abc import Sequence

from cotbal.data.files import locked
from cotbal.errors import CotbalError
from cotbal.jobs.execute import Options
from cotbal.jobs.plan import Kind, Prepared
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.runs import do, prepare
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run, curve_runs
from cotbal.recipe.schema import read_fraction

FINEST = 10**15  # directories are named after fractions


def fractions_of(text: str) -> tuple[str, ...]:
    """Fractions from a list such as `1/8,0.5,1`, ascending, in lowest terms.

    Raises:
        CotbalError: one is no number above 0 and up to 1, or two are the same.
    """
    try:
        fractions = sorted(read_fraction(part) for part in text.split(","))
    except ValueError:
        fractions = []
    if (
        not fractions
        or not all(0 < fraction <= 1 and fraction.denominator <= FINEST for fraction in fractions)
        or len(set(fractions)) < len(fractions)
    ):
        raise CotbalError(
            "--fractions: expected different fractions above 0 and up to 1, separated by commas,"
            f" such as 1/8,1/2,1; found {text!r}",
            "invalid-fractions",
        )
    return tuple(map(str, fractions))


def plan_curve(
    recipe: Recipe, root: RunDir, fractions: Sequence[str], alone: bool, seeds: Sequence[int]
) -> Prepared:
    """Every training of the curve, once a seed; nothing is written.

    Raises:
        CotbalError: the data is broken.
    """
    runs: list[tuple[Run, Kind]] = [
        (run, "curve")
        for seed in seeds
        for run in curve_runs(recipe.mixture, fractions, alone, seed)
    ]
    return prepare(recipe, root, runs)


def run_curve(prepared: Prepared, options: Options) -> None:
    """Train and score what is not done yet."""
    with locked(prepared.root.lock):
        do(prepared, prepared.plan.runs, options)
