"""Sampling ratios that follow from the numbers of records alone, for final runs that ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cotbal.jobs.weigh import task_weights
from cotbal.recipe.mixture import Mixture
from cotbal.recipe.runs import Run, held
from cotbal.weightings.sampling import SAMPLING, ratios


def with_sampling(mixture: Mixture, sizes: Mapping[str, Mapping[str, int]], run: Run) -> Run:
    """The run, with ratios if its method is temperature sampling. The tasks of a group are sampled
    as one task; one that is not balanced has the ratio 1.

    Args:
        sizes: task -> portion -> number of training records.
    """
    method, _, variant = run.weighting.partition(":")
    if method != SAMPLING:
        return run
    records = held(run, sizes)
    of_units = dict.fromkeys(mixture.units, 0)
    for task in mixture.balanced:
        of_units[task.unit] += records[task.name]
    return replace(run, ratios=task_weights(mixture, ratios(of_units, variant)))
