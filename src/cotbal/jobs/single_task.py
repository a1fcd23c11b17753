"""Validation scores of models that a run directory holds and that were trained on one task alone,
on as much of its data as the trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from cotbal.data.files import read_json
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.scoring import scores_of
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import ALONE
from cotbal.response import Response
from cotbal.scores.task_scores import task_scores
from cotbal.training.run_paths import RunPaths


@dataclass(frozen=True)
class SingleTask:
    """What the goal `worst` compares with.

    Attributes:
        scores: task -> validation score, a mean over training seeds; empty unless every measurable
            task with a weight has one.
        missing: tasks without such a model.
        fraction: of the data, that of the trials.
    """

    scores: Mapping[str, float]
    missing: tuple[str, ...]
    fraction: str

    @property
    def sentence(self) -> str:
        """What was compared with, and how to get single-task models where there are none."""
        if self.scores:
            return (
                "worst: the lowest score relative to models trained on one task alone, on"
                f" {self.fraction} of the data, by their validation scores"
            )
        return (
            "worst: the smallest change against equal weights, because there are no single-task"
            f" models on {self.fraction} of the data, as the trials, with validation scores for"
            f" {', '.join(self.missing)}; `cotbal curve RECIPE --fractions {self.fraction} --alone`"
            " trains them"
        )


def single_task_scores(root: RunDir, response: Response) -> SingleTask:
    """The scores of single-task models for a response, as far as the run directory holds them."""
    if not (root.design.exists() and root.recipe.exists()):
        return SingleTask({}, response.scored, "1")
    fraction: str = read_json(root.design)["fraction"]
    recipe = load_recipe(root.recipe)
    scores, missing = {}, []
    for task in response.unit_of_task:
        if task in response.unmeasurable:
            continue
        of_seeds = [_score(recipe, paths, task) for paths in _models(recipe, root, task, fraction)]
        if of_seeds:
            scores[task] = float(np.mean(of_seeds))
        else:
            missing.append(task)
    return SingleTask({} if missing else scores, tuple(missing), fraction)


def _models(recipe: Recipe, root: RunDir, task: str, fraction: str) -> list[RunPaths]:
    """Finished models of this task alone, of all seeds: of the curve, or the probes that saw all of
    the task.
    """
    homes = (root, *root.seeds)
    of_curve = [home.curve(f"{ALONE}:{task}:{fraction}") for home in homes]
    done = [paths for paths in of_curve if paths.done]
    in_full = recipe.file.portions.large == 1 and not recipe.probes_differ
    if done or Fraction(fraction) != 1 or not in_full or recipe.mixture.unit_of(task) != task:
        return done
    probes = [home.probe(f"solo:{task}") for home in homes]
    return [paths for paths in probes if paths.done]


def _score(recipe: Recipe, paths: RunPaths, task: str) -> float:
    metric = recipe.mixture[task].metric
    content = scores_of(paths, task, "validation", (metric,))
    return task_scores(content).metrics[metric].measured.score
