"""`compare` and `ablate`: several methods and seeds through the same workers, reported side by
side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cotbal import plugins
from cotbal.balance import Balance, Settings
from cotbal.balance import balance as balance_scores
from cotbal.balance.probes import Difficulty
from cotbal.data.files import locked, write_json
from cotbal.errors import CotbalError, near
from cotbal.jobs.execute import Options
from cotbal.jobs.plan import Kind, Prepared
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.runs import FIXED, prepare, probes, untrained
from cotbal.jobs.stages import do_first, do_rest
from cotbal.jobs.steering import method_of, trials_for
from cotbal.jobs.weigh import score_matrices, task_weights, units, weigh
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run, final_run, plan_probes, single_task_runs
from cotbal.weightings import STL

PARTS = ("outward", "inward", "inter", "intra")


@dataclass(frozen=True)
class Variant:
    """Weights other than those of the recipe: a part of them alone, or other settings."""

    settings: Settings
    part: str = "all"


@dataclass(frozen=True)
class Study:
    """A prepared comparison.

    Attributes:
        prepared: every run that it needs.
        variants: name of a final run -> settings and part of its weights; empty for a comparison of
            methods.
    """

    prepared: Prepared
    variants: Mapping[str, Variant]


def all_methods() -> tuple[str, ...]:
    """Every method that can be compared: STL, and a file of `cotbal.weightings` each."""
    return (STL, *plugins.names("cotbal.weightings"))


def method_names(names: Sequence[str]) -> tuple[str, ...]:
    """Methods by name (a file of `cotbal.weightings`, a dotted path, or `stl`), each once.

    Raises:
        CotbalError: no such method.
    """
    methods = [_spelled(name) for name in names]
    modules = [name.partition(":")[0] for name in methods]
    unknown = [name for name in modules if "." not in name and name not in all_methods()]
    if unknown:
        raise CotbalError(
            f"methods: expected one of {', '.join(all_methods())}, or the dotted path of your own"
            f" module; found {unknown[0]!r}{near(unknown[0], all_methods())}",
            "unknown-method",
        )
    return tuple(dict.fromkeys(methods))


def _spelled(name: str) -> str:
    """A method in lower case; a dotted path and a variant, such as the goal of `steer`, as they
    are.
    """
    method, colon, variant = name.strip().partition(":")
    return (method if "." in method else method.lower()) + colon + variant


def plan_comparison(
    recipe: Recipe, root: RunDir, methods: Sequence[str], seeds: Sequence[int]
) -> Study:
    """Every run of a comparison: the probes where CoTBal is compared, the trials where steered
    weights are, and every method once a seed.

    Raises:
        CotbalError: the data is broken, or a method or goal does not exist.
    """
    methods = tuple(dict.fromkeys(method_of(recipe.mixture, name) for name in methods))
    recipe, runs = trials_for(recipe, root, methods)
    if FIXED in methods:
        runs = [*probes(recipe), *runs]
    runs += untrained(recipe)
    for seed in seeds:
        runs += _models(recipe, methods, seed)
    return Study(prepare(recipe, root, runs), {})


def plan_ablation(
    recipe: Recipe, root: RunDir, temperatures: Sequence[float], precise: bool, seeds: Sequence[int]
) -> Study:
    """Every run of the paper's Table 5: EW, the parts alone, temperatures, and the other kind of
    difficulty.

    Probes are shared by all of them; precise difficulty needs models trained on one task alone,
    which are STL too.

    Raises:
        CotbalError: the data is broken.
    """
    base: Settings = recipe.file.balance
    variants = {f"{FIXED}-{part}": Variant(base, part) for part in PARTS}
    others = [tau for tau in temperatures if tau != base.temperature]
    variants |= {
        f"{FIXED}-temperature-{tau:g}": Variant(base.changed(temperature=tau)) for tau in others
    }
    runs = [*probes(recipe), *untrained(recipe)]
    if precise and base.form == "standard":
        other: Difficulty = "real" if base.difficulty == "precise" else "precise"
        variants[f"{FIXED}-{other}-difficulty"] = Variant(base.changed(difficulty=other))
        both = plan_probes(recipe.mixture, "standard", "precise", recipe.seeds)
        runs += [(run, "probe") for run in both]
    for seed in seeds:
        runs += _models(recipe, (STL, "ew", FIXED) if precise else ("ew", FIXED), seed)
        runs += [(final_run(recipe.mixture, FIXED, seed, name), "final") for name in variants]
    return Study(prepare(recipe, root, runs), variants)


def _models(recipe: Recipe, methods: Sequence[str], seed: int) -> list[tuple[Run, Kind]]:
    runs: list[tuple[Run, Kind]] = []
    for method in methods:
        if method == STL:
            whole = recipe.file.portions.large == 1 and not recipe.probes_differ
            alone = single_task_runs(recipe.mixture, whole, recipe.file.balance.form, seed)
            runs += [(run, "probe" if run.name.startswith("solo:") else "final") for run in alone]
        else:
            runs.append((final_run(recipe.mixture, method, seed), "final"))
    return runs


def run_comparison(study: Study, options: Options) -> Balance | None:
    """Probes and trials, weights, models; what is done is kept. Returns the weights of the probes,
    where a model needs them.

    Every model has the same number of threads, so that two of one seed differ in their method
    alone.
    """
    prepared = study.prepared
    with locked(prepared.root.lock):
        left = do_first(prepared, options)
        if not any(p.run.weighting == FIXED for p in left):
            do_rest(prepared, left, options)
            return None
        result = weigh(prepared.root)
        main = task_weights(prepared.recipe.mixture, result.weights)
        do_rest(prepared, left, options, _weights(study, main))
        return result


def _weights(study: Study, main: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Name of a final run -> task -> weight; those of an ablation are kept in
    `comparison/variants.json`.
    """
    prepared = study.prepared
    weights_of_variants = {FIXED: dict(main)}
    if not study.variants:
        return weights_of_variants
    matrices = score_matrices(prepared)
    kept = {}
    for name, variant in study.variants.items():
        result = balance_scores(matrices, units(prepared.recipe), variant.settings)
        weights = dict(zip(result.units, result.parts[variant.part].tolist(), strict=True))
        weights_of_variants[name] = task_weights(prepared.recipe.mixture, weights)
        settings = variant.settings.model_dump()
        kept[name] = {"weights": weights, "part": variant.part, "settings": settings}
    write_json(prepared.root.comparison / "variants.json", kept)
    return weights_of_variants
