"""How the tasks of a mixture are sampled before any ratio is chosen: as the recipe says, or by the
method `sampling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cotbal.errors import RecipeError, near
from cotbal.jobs.weigh import task_weights
from cotbal.recipe.mixture import Mixture
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run
from cotbal.weightings.sampling import SAMPLING, exponent_of, ratios

Sizes = Mapping[str, Mapping[str, int]]


def with_sampling(recipe: Recipe, sizes: Sizes, run: Run) -> Run:
    """The run, sampled as the recipe says (`optimization.sampling`), or, if its method is
    temperature sampling, by the ratios of its exponent instead.

    A run on one task is unchanged: there is nothing to divide.

    Args:
        recipe: what the run is trained by.
        sizes: task -> portion -> number of training records.

    Raises:
        RecipeError: `unknown-unit` in `optimization.sampling`.
    """
    method, _, variant = run.weighting.partition(":")
    if method == SAMPLING:
        return replace(run, ratios=_by_exponent(recipe.mixture, sizes, exponent_of(variant)))
    trained = [task for task, portion in run.portions.items() if portion != "none"]
    if len(trained) < 2:
        return run
    return replace(run, sampling=sampling_of(recipe, sizes))


def sampling_of(recipe: Recipe, sizes: Sizes) -> dict[str, float] | None:
    """Task -> ratio that the recipe samples it by; None where every record is shown once. A task
    that is not balanced has 1.

    Raises:
        RecipeError: `unknown-unit`.
    """
    wanted = recipe.file.optimization.sampling
    mixture = recipe.mixture
    if not isinstance(wanted, Mapping):
        return None if wanted == 1 else _by_exponent(mixture, sizes, wanted)
    for name in wanted:
        if name not in mixture.units:
            raise RecipeError(
                f"{recipe.path}: optimization.sampling: expected tasks or groups among"
                f" {', '.join(mixture.units)}; found {name!r}{near(name, mixture.units)}",
                "unknown-unit",
            )
    return task_weights(mixture, {**dict.fromkeys(mixture.units, 1.0), **wanted})


def _by_exponent(mixture: Mixture, sizes: Sizes, exponent: float) -> dict[str, float]:
    """The tasks of a group are sampled as one task with all their records."""
    of_units = dict.fromkeys(mixture.units, 0)
    for task in mixture.balanced:
        of_units[task.unit] += sizes[task.name]["full"]
    return task_weights(mixture, ratios(of_units, exponent))
