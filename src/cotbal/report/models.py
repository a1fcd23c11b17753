"""Which models a run directory offers for a comparison: final models by method, and single-task
models as STL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement

from cotbal.recipe.runs import UNTRAINED
from cotbal.report.comparison import BASELINE, OURS, Comparison, Models, Scores, compare
from cotbal.report.contents import Contents, RunContents
from cotbal.report.seed_noise import seed_noise
from cotbal.weightings import STL


def compare_all(contents: Contents) -> Comparison:
    """The methods of the run directory on common seeds; against STL if it was trained, else against
    EW.
    """
    every = models_of(contents)
    models = fullest(every)
    reference = STL if STL in models else BASELINE
    comparison = compare(models, contents.tasks, contents.balanced, reference)
    noise = seed_noise(contents, every, comparison)
    others = _on_only_evaluated(contents, models)
    return replace(comparison, seed_noise=noise, only_evaluated=others)


def _on_only_evaluated(contents: Contents, models: Models) -> Comparison | None:
    """Final models on the tasks that are only evaluated; there is no STL of them."""
    tasks = contents.only_evaluated
    compared: dict[str, Mapping[int, Scores]] = {}
    for name, by_seed in models.items():
        if all(_answered(scores, tasks) for scores in by_seed.values()):
            compared[name] = by_seed
    if not compared:
        return None
    reference, base = BASELINE, contents.untrained
    if base is not None and _answered(base.scores, tasks):
        reference = UNTRAINED
        seeds = next(iter(compared.values()))
        compared = {UNTRAINED: dict.fromkeys(seeds, base.scores), **compared}
    return compare(compared, tasks, tasks, reference)


def _answered(scores: Scores, tasks: Sequence[str]) -> bool:
    """Whether a model answered test splits of some of these tasks."""
    return any(task in tasks and split != "validation" for task, split in scores)


def fullest(models: Models) -> Models:
    """Methods that share seeds, so that there are as many methods times seeds as possible.

    A method with only the first seeds done would otherwise take the other seeds away from all.
    """
    groups = {}
    for one, other in combinations_with_replacement(models.values(), 2):
        shared = frozenset(one) & frozenset(other)
        groups[shared] = [name for name, by_seed in models.items() if shared <= set(by_seed)]
    if not groups:
        return {}

    def rank(seeds: frozenset[int]) -> tuple[bool, int, int]:
        methods = len(groups[seeds])
        cells = len(seeds) * methods
        # One method alone is no comparison, however many seeds it has.
        return cells > 0 and methods > 1, cells, methods

    best = max(groups, key=rank)
    return {name: models[name] for name in groups[best]}


def models_of(contents: Contents) -> Models:
    """Method -> training seed -> scores on the test splits, of the runs that are done.

    STL and EW, the references, come first, CoTBal and its variants last.
    """
    models: dict[str, dict[int, Scores]] = {}
    for run in contents.finals:
        is_single = single_task(run, contents) is not None
        if run.status == "done" and not is_single:
            by_seed = models.setdefault(run.name, {})
            by_seed[contents.seed_of(run)] = run.scores
    single = _single_task_models(contents)
    if single:
        models[STL] = single
    ordered = sorted(models, key=_order)
    return {name: models[name] for name in ordered}


def _order(method: str) -> tuple[int, str]:
    """Rank of a method, then its name."""
    rank = 2
    if method == STL:
        rank = 0
    elif method == BASELINE:
        rank = 1
    elif method == OURS:
        rank = 4
    elif method.startswith(OURS):
        rank = 3
    return rank, method


def _single_task_models(contents: Contents) -> dict[int, Scores]:
    """Training seed -> test scores of each balanced task by the model trained on it alone, for the
    seeds that have all of these models.
    """
    by_seed: dict[int, dict[str, RunContents]] = {}
    for run in contents.runs:
        task = single_task(run, contents)
        if run.status == "done" and task is not None:
            of_seed = by_seed.setdefault(contents.seed_of(run), {})
            of_seed[task] = run
    needed = set(contents.balanced)
    models = {}
    for seed, runs in by_seed.items():
        if needed <= set(runs):
            models[seed] = _own_test_scores(runs)
    return models


def _own_test_scores(runs: dict[str, RunContents]) -> Scores:
    scores = {}
    for task, run in runs.items():
        for key, values in run.scores.items():
            scored_task, split = key
            if scored_task == task and split != "validation":
                scores[key] = values
    return scores


def single_task(run: RunContents, contents: Contents) -> str | None:
    """The task that a run was trained on alone and in full; None for any other run."""
    kind, _, name = run.name.partition(":")
    if kind == "stl":
        return name
    if kind != "solo" or name not in contents.tasks:
        return None
    recipe = contents.recipe
    if recipe is None:
        return name
    has_all_data = recipe.file.portions.large == 1
    if not has_all_data or recipe.probes_differ:
        return None
    return name
