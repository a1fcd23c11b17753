"""From finished probes to weights: score matrices, Eq. 3-11 by the recipe's settings, and what is
written of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cotbal.balance import Balance, weight_draws
from cotbal.balance import balance as balance_scores
from cotbal.balance.agreement import Agreement, agreement
from cotbal.balance.algorithm import WeightDraws
from cotbal.balance.probes import replicate_name
from cotbal.data.files import write_sealed, write_sealed_text
from cotbal.errors import CotbalError, RunError
from cotbal.jobs.plan import Prepared, label_of, paths_of
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.scoring import score_matrix
from cotbal.recipe.mixture import Mixture
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import Run
from cotbal.scores.matrix import ScoreMatrix, mean_matrix
from cotbal.training.run_paths import RunPaths

AGREEMENT_DRAWS = 2000


def weigh(root: RunDir) -> Balance:
    """From the kept answers of the probes to weights; repeated on every call, since it takes a
    second. Needs no data of the recipe.

    Raises:
        RunError: the directory holds no recipe, or a probe is not done.
    """
    recipe, matrices = matrices_of(root)
    result = balance_scores(matrices, units(recipe), recipe.file.balance)
    write_balance(root, mean_matrix(matrices), result)
    if len(matrices) > 1:
        for seed, matrix in zip(recipe.seeds, matrices, strict=True):
            write_sealed_text(root.seeded(seed).score_table, matrix.to_csv())
    write_weights(root, recipe.mixture, result.weights)
    return result


def score_matrices(prepared: Prepared) -> list[ScoreMatrix]:
    """The score matrix of all probes that are planned, one per training seed of the probes."""
    planned = [p for p in prepared.plan.runs if p.kind == "probe" and p.run.validation]
    return _matrices(prepared.recipe, [(p.run, p.paths) for p in planned])


def matrices_of(root: RunDir) -> tuple[Recipe, list[ScoreMatrix]]:
    """The recipe of a run directory, and the score matrix of the probes of its form, one per
    training seed.

    Raises:
        RunError: the directory holds no recipe, or a probe is not done.
    """
    if not root.recipe.exists():
        raise RunError(
            f"{root.root}: expected a run directory with a recipe.yaml; found none",
            "no-run-directory",
        )
    recipe = load_recipe(root.recipe)
    return recipe, finished_matrices(recipe, root)


def finished_matrices(recipe: Recipe, root: RunDir) -> list[ScoreMatrix]:
    """The score matrix of the probes of a recipe, one per training seed.

    Raises:
        RunError: a probe is not done.
    """
    recipe_seed = recipe.file.optimization.seed
    runs = [(run, paths_of(run, "probe", root, recipe_seed)) for run in recipe.probe_runs]
    missing = [label_of(run, recipe_seed) for run, paths in runs if not paths.done]
    if missing:
        raise RunError(
            f"{root.root}: expected finished probes; not finished: {', '.join(missing)}; rerun"
            " `cotbal balance` to finish them",
            "unfinished-probes",
        )
    return _matrices(recipe, runs)


def _matrices(recipe: Recipe, runs: Sequence[tuple[Run, RunPaths]]) -> list[ScoreMatrix]:
    metrics = {task.name: task.metric for task in recipe.mixture.balanced}
    files: dict[int, dict[str, RunPaths]] = {seed: {} for seed in recipe.seeds}
    answered: dict[str, tuple[str, ...]] = {}
    for run, paths in runs:
        number = recipe.replicate_of(run)
        if number is not None:
            row = replicate_name(run.name, number)
            seed = run.seed if number == 1 else recipe.seeds[0]
            files[seed][row] = paths
            answered[row] = run.validation
    return [score_matrix(rows, metrics, answered) for rows in files.values()]


def units(recipe: Recipe) -> dict[str, str]:
    """Task -> the unit that it gets its weight from."""
    return {task.name: task.unit for task in recipe.mixture.balanced}


def write_balance(root: RunDir, matrix: ScoreMatrix, result: Balance) -> None:
    """Write the score matrix, what follows from it, and the weights of the units."""
    write_sealed_text(root.score_table, matrix.to_csv())
    write_sealed(root.balance, result.to_json())
    write_sealed(root.weights, {"weights": result.weights, "tasks": result.weights})


def write_weights(root: RunDir, mixture: Mixture, weights: Mapping[str, float]) -> None:
    """Write unit -> weight and task -> weight."""
    content = {"weights": dict(weights), "tasks": task_weights(mixture, weights)}
    write_sealed(root.weights, content)


def task_weights(mixture: Mixture, weights: Mapping[str, float]) -> dict[str, float]:
    """Task -> weight from unit -> weight, for tasks with training data; one that is not balanced
    trains with the mean weight, 1.

    Raises:
        CotbalError: a unit has no weight, or one that is not a positive number, or a weight belongs
            to no unit.
    """
    expected = f"weights: expected one for each of {', '.join(mixture.units)}"
    missing = [unit for unit in mixture.units if unit not in weights]
    if missing:
        raise CotbalError(f"{expected}; none for {', '.join(missing)}", "missing-weights")
    unknown = [unit for unit in weights if unit not in mixture.units]
    if unknown:
        text = f"{expected}; {', '.join(unknown)} is no unit of the recipe"
        raise CotbalError(text, "unknown-unit")
    wrong = []
    for unit, value in weights.items():
        if not 0 < value < math.inf:
            wrong.append(f"{unit}: {value}")
    if wrong:
        text = f"weights: expected positive numbers; found {', '.join(wrong)}"
        raise CotbalError(text, "not-positive")
    return {task.name: weights[task.unit] if task.balanced else 1.0 for task in mixture.trained}


def agree(first: RunDir, second: RunDir) -> Agreement:
    """Do the weights of two run directories agree? For cheaper probes against those of the paper's
    form.

    Raises:
        CotbalError: a probe is not done, or the two balance other units.
    """
    (recipe, scores), (other, other_scores) = matrices_of(first), matrices_of(second)
    names = recipe.mixture.units
    if other.mixture.units != names:
        raise CotbalError(
            f"expected the same units in both; found {', '.join(names)} and"
            f" {', '.join(other.mixture.units)}",
            "other-units",
        )
    # Copies hold the same trainings, so the noise of training is the same too.
    stream = 0 if _are_equal(scores, other_scores) else 1
    draws = _draws(recipe, scores, 0), _draws(other, other_scores, stream)
    return agreement(*draws, names)


def _draws(recipe: Recipe, scores: Sequence[ScoreMatrix], stream: int) -> WeightDraws:
    # Pairs of draws need as many of them, from one seed.
    settings = recipe.file.balance.changed(bootstrap=AGREEMENT_DRAWS, seed=0)
    return weight_draws(scores, units(recipe), settings, stream)


def _are_equal(first: Sequence[ScoreMatrix], second: Sequence[ScoreMatrix]) -> bool:
    return [matrix.to_csv() for matrix in first] == [matrix.to_csv() for matrix in second]
