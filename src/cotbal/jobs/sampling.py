"""How the tasks of a mixture are sampled before any ratio is chosen: as the recipe says, or by the
method `sampling`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from statistics import median

from cotbal.errors import RecipeError, near
from cotbal.jobs.weigh import task_weights
from cotbal.recipe.mixture import Mixture
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run
from cotbal.weightings.sampling import SAMPLING, exponent_of, ratios

DOMINANT = 4  # times the records of the median of the others
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


def dominance(recipe: Recipe, sizes: Sizes, methods: Collection[str]) -> list[str]:
    """A remark where one task or group has many times the records of the others, and nothing that
    is planned samples it less.

    On `pocket --mix dominated`, where it has 8 times as many, temperature sampling gained more than
    weights or ratios from trials (docs/results.md).

    Args:
        methods: of the planned runs.
    """
    is_sampled = any(method.partition(":")[0] == SAMPLING for method in methods)
    records = _records(recipe.mixture, sizes)
    if is_sampled or recipe.file.optimization.sampling != 1 or len(records) < 2:
        return []
    largest = max(records, key=lambda unit: records[unit])
    others = median(count for unit, count in records.items() if unit != largest)
    if records[largest] < DOMINANT * others:
        return []
    return [
        f"{largest} has {records[largest]:,} of {sum(records.values()):,} training records,"
        f" {records[largest] / others:.0f} times those of the median of the others: temperature"
        " sampling may raise the mean over tasks without any trial (optimization.sampling=0.5, or"
        " the method sampling:0.5)"
    ]


def _by_exponent(mixture: Mixture, sizes: Sizes, exponent: float) -> dict[str, float]:
    return task_weights(mixture, ratios(_records(mixture, sizes), exponent))


def _records(mixture: Mixture, sizes: Sizes) -> dict[str, int]:
    """Unit -> training records; a group is sampled as one task with all its records."""
    records = dict.fromkeys(mixture.units, 0)
    for task in mixture.balanced:
        records[task.unit] += sizes[task.name]["full"]
    return records
