"""Which models a run directory offers for a comparison: final models by method, and single-task
models as STL.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from cotbal.report.comparison import BASELINE, OURS, Comparison, Difference, Models, Scores, compare
from cotbal.report.contents import Contents, RunContents
from cotbal.scores.results import Column, Results
from cotbal.weightings import STL, method_label

OWN = -1  # stands for the recipe's training seed until its number is known
FIRST = (STL, BASELINE)  # methods that others are held against come first, CoTBal comes last
LAST = OURS


def compare_all(contents: Contents) -> Comparison:
    """The methods of the run directory on common seeds; against STL where that is there, else
    against EW.
    """
    models = fullest(models_of(contents))
    reference = STL if STL in models else BASELINE
    return compare(models, contents.tasks, contents.balanced, reference)


def fullest(models: Models) -> Models:
    """Methods that share seeds, so that there are as many methods times seeds as possible.

    A method of which only the first seeds are done would otherwise take the other seeds away from
    all.
    """
    groups = {}
    for one, other in combinations_with_replacement(models.values(), 2):
        seeds = frozenset(one) & frozenset(other)
        groups[seeds] = [name for name, each in models.items() if seeds <= set(each)]
    if not groups:
        return {}
    cells = {seeds: len(seeds) * len(names) for seeds, names in groups.items()}
    # One method alone is no comparison, however many seeds it has.
    seeds = max(
        groups, key=lambda s: (cells[s] > 0 and len(groups[s]) > 1, cells[s], len(groups[s]))
    )
    return {name: models[name] for name in groups[seeds]}


def models_of(contents: Contents) -> Models:
    """Method -> training seed -> scores on the test splits; a method with a run that is not done is
    left out there.
    """
    own = contents.plan.get("seed", OWN)
    found: dict[str, dict[int, Scores]] = {}
    single: dict[int, dict[str, RunContents]] = {}
    for run in contents.runs:
        seed = own if run.seed is None else run.seed
        task = single_task(run, contents)
        if run.status == "done" and task is not None:
            single.setdefault(seed, {})[task] = run
        elif run.status == "done" and run.kind == "final":
            found.setdefault(run.name, {})[seed] = run.scores
    for seed, runs in single.items():
        if set(contents.balanced) <= set(runs):
            scores = {
                key: s
                for task, run in runs.items()
                for key, s in run.scores.items()
                if key[0] == task
            }
            found.setdefault(STL, {})[seed] = {
                key: s for key, s in scores.items() if key[1] != "validation"
            }
    names = [name for name in FIRST if name in found]
    names += sorted(
        name for name in found if name not in names and name != LAST and not name.startswith(LAST)
    )
    names += sorted(name for name in found if name.startswith(LAST) and name != LAST)
    return {name: found[name] for name in [*names, *([LAST] if LAST in found else [])]}


def single_task(run: RunContents, contents: Contents) -> str | None:
    """The task that a run was trained on alone and in full; None for any other run."""
    kind, _, name = run.name.partition(":")
    if kind == "stl":
        return name
    whole = contents.recipe is None or contents.recipe.file.portions.large == 1
    if kind != "solo" or not whole or (contents.recipe and contents.recipe.probes_differ):
        return None
    return name if name in contents.tasks else None


def results_table(found: Comparison, contents: Contents) -> Results:
    """Test results of the balanced tasks as a table that `cotbal overall` reads, methods by the
    paper's names.
    """
    rows = [
        row
        for row in found.rows
        if row.task in contents.balanced and len(row.scores) == len(found.methods)
    ]
    several = {row.task for row in rows if sum(row.task == other.task for other in rows) > 1}
    columns = [
        Column(r.task, f"{r.split}.{r.metric}" if r.task in several else r.metric) for r in rows
    ]
    values = np.array(
        [[row.scores[method] for row in rows] for method in found.methods], dtype=float
    )
    names = tuple(method_label(method) for method in found.methods)
    return Results(names, tuple(columns), values.reshape(len(names), len(rows)))


def to_json(found: Comparison) -> dict[str, Any]:
    """Improvement, error and paired differences with their intervals, methods by the paper's
    names."""
    return {
        "methods": [method_label(name) for name in found.methods],
        "seeds": list(found.seeds),
        "reference": method_label(found.reference) if found.reference else None,
        "left_out": list(found.left_out),
        "against": {
            method_label(name): {
                "improvement": _numbers(each.average),
                "error": _numbers(each.error),
                "tasks": {task: _numbers(change) for task, change in each.per_task.items()},
            }
            for name, each in found.against.items()
        },
        "minus_EW": {method_label(name): _numbers(each) for name, each in found.paired.items()},
        "improvement_by_seed": {
            method_label(name): [None if np.isnan(value) else value for value in values]
            for name, values in found.by_seed.items()
        },
        "scores_minus_EW": [
            {
                "task": row.task,
                "split": row.split,
                "metric": row.metric,
                "methods": {
                    method_label(name): _numbers(each) for name, each in row.differences.items()
                },
            }
            for row in found.rows
        ],
    }


def _numbers(change: Difference) -> dict[str, Any]:
    """A change with its interval, and half its width: the smallest change that could have been told
    from none.
    """
    if np.isnan(change.low):
        return {
            "value": change.value,
            "interval": None,
            "half_width": None,
            "distinguishable": False,
        }
    half = (change.high - change.low) / 2
    bounds = [change.low, change.high]
    return {
        "value": change.value,
        "interval": bounds,
        "half_width": half,
        "distinguishable": change.clear,
    }
