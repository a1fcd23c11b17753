"""From finished probes to weights: score matrices, Eq. 3-11 by the recipe's settings, and what is
written of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cotbal.balance import Balance, weight_draws
from cotbal.balance import balance as balance_scores
from cotbal.balance.agreement import Agreement, agreement
from cotbal.balance.probes import form_runs
from cotbal.data.files import write_json, write_text
from cotbal.errors import CotbalError, RunError
from cotbal.jobs.plan import Prepared, paths_of
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.scoring import score_matrix
from cotbal.recipe.mixture import Mixture
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import Run, plan_probes
from cotbal.scores.matrix import ScoreMatrix, mean_matrix
from cotbal.training.run_paths import RunPaths

AGREEMENT_DRAWS = 2000


def weigh(prepared: Prepared) -> Balance:
    """From the kept answers of the probes to weights; repeated on every call, since it takes a
    second.
    """
    return _weigh(prepared.root, prepared.recipe, score_matrices(prepared))


def weigh_again(root: RunDir) -> Balance:
    """The same for a run directory alone, without the data of its recipe.

    Raises:
        RunError: the directory holds no recipe, or a probe is not done.
    """
    return _weigh(root, *matrices_of(root))


def _weigh(root: RunDir, recipe: Recipe, matrices: Sequence[ScoreMatrix]) -> Balance:
    settings = recipe.file.balance
    runs = form_runs(settings.form, settings.difficulty, recipe.mixture.units)
    chosen = [matrix.rows(runs.names) for matrix in matrices]
    result = balance_scores(chosen, units(recipe), settings)
    write_balance(root, mean_matrix(chosen), result)
    if len(chosen) > 1:
        for seed, matrix in zip(recipe.seeds, chosen, strict=True):
            write_text(root.seeded(seed).score_table, matrix.to_csv())
    write_weights(root, recipe.mixture, result.weights)
    return result


def score_matrices(prepared: Prepared) -> list[ScoreMatrix]:
    """The score matrix of all probes that are planned, one per training seed of the probes."""
    planned = [p for p in prepared.plan.runs if p.kind == "probe" and p.run.validation]
    return _matrices(prepared.recipe, [(p.run, p.paths) for p in planned])


def matrices_of(root: RunDir) -> tuple[Recipe, list[ScoreMatrix]]:
    """The recipe of a run directory, and the score matrix of the probes of its form, one a training
    seed.

    Raises:
        RunError: the directory holds no recipe, or a probe is not done.
    """
    if not root.recipe.exists():
        raise RunError(f"{root.root}: expected a run directory with a recipe.yaml; found none")
    recipe = load_recipe(root.recipe)
    section, own = recipe.file.balance, recipe.file.optimization.seed
    planned = plan_probes(recipe.mixture, section.form, section.difficulty, recipe.seeds).runs
    runs = [(run, paths_of(run, "probe", root, own)) for run in planned]
    missing = [run.name for run, paths in runs if not paths.done]
    if missing:
        raise RunError(
            f"{root.root}: expected finished probes; not done: {', '.join(dict.fromkeys(missing))}"
        )
    return recipe, _matrices(recipe, runs)


def _matrices(recipe: Recipe, runs: Sequence[tuple[Run, RunPaths]]) -> list[ScoreMatrix]:
    metrics = {task.name: task.metric for task in recipe.mixture.balanced}
    matrices = []
    for seed in recipe.seeds:
        chosen = [(run, paths) for run, paths in runs if run.seed == seed]
        answered = {run.name: run.validation for run, _ in chosen}
        matrices.append(score_matrix({run.name: paths for run, paths in chosen}, metrics, answered))
    return matrices


def units(recipe: Recipe) -> dict[str, str]:
    """Task -> the unit that it gets its weight from."""
    return {task.name: task.unit for task in recipe.mixture.balanced}


def write_balance(root: RunDir, matrix: ScoreMatrix, result: Balance) -> None:
    """Write the score matrix, what follows from it, and the weights of the units."""
    write_text(root.score_table, matrix.to_csv())
    write_json(root.balance, result.to_json())
    write_json(root.weights, {"weights": result.weights, "tasks": result.weights})


def write_weights(root: RunDir, mixture: Mixture, weights: Mapping[str, float]) -> None:
    """Write unit -> weight and task -> weight."""
    content = {"weights": dict(weights), "tasks": task_weights(mixture, weights)}
    write_json(root.weights, content)


def task_weights(mixture: Mixture, weights: Mapping[str, float]) -> dict[str, float]:
    """Task -> weight from unit -> weight; a task that is not balanced trains with the mean weight,
    1.

    Raises:
        CotbalError: a unit has no weight, or one that is not a positive number, or a weight belongs
            to no unit.
    """
    missing = [unit for unit in mixture.units if unit not in weights]
    if missing:
        raise CotbalError(
            f"weights: expected one for each of {', '.join(mixture.units)}; none for"
            f" {', '.join(missing)}"
        )
    unknown = [unit for unit in weights if unit not in mixture.units]
    if unknown:
        raise CotbalError(
            f"weights: expected one for each of {', '.join(mixture.units)}; found one for"
            f" {', '.join(unknown)}, which is no unit of the recipe"
        )
    wrong = [
        f"{unit}: {weights[unit]}" for unit in mixture.units if not 0 < weights[unit] < float("inf")
    ]
    if wrong:
        raise CotbalError(f"weights: expected positive numbers; found {', '.join(wrong)}")
    return {task.name: weights[task.unit] if task.balanced else 1.0 for task in mixture.tasks}


def agree(first: RunDir, second: RunDir) -> Agreement:
    """Do the weights of two run directories agree? For cheaper probes against those of the paper's
    form.

    Raises:
        CotbalError: a probe is not done, or the two balance other units.
    """
    draws, names = [], []
    for stream, root in enumerate((first, second)):
        recipe, matrices = matrices_of(root)
        # Pairs of draws need as many of them, from one seed.
        settings = recipe.file.balance.changed(bootstrap=AGREEMENT_DRAWS, seed=0)
        draws.append(weight_draws(matrices, units(recipe), settings, stream))
        names.append(recipe.mixture.units)
    if names[0] != names[1]:
        raise CotbalError(
            f"expected the same units in both; found {', '.join(names[0])} and"
            f" {', '.join(names[1])}"
        )
    return agreement(draws[0], draws[1], names[0])
