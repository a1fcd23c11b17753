"""What the probes of a plan can be expected to show, and which further runs would show more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from cotbal.balance import balance as balance_scores
from cotbal.balance.planning import Outlook, Step, expected_half_width, outlooks
from cotbal.jobs.plan import Prepared, paths_of
from cotbal.jobs.weigh import finished_matrices, units
from cotbal.recipe.mixture import set_name
from cotbal.recipe.runs import Run, cost, plan_probes, portion_size

Sizes = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class NextStep:
    """One way to narrow the intervals of the weights.

    Attributes:
        step: `replicate`, `seed`, `samples` or `mini`.
        change: of the recipe or the data.
        half_width: expected median half-width of the 95 % intervals of the weights; None where no
            weight would have one.
        doubtful_half_width: the same over the doubtful weights.
        cost: training records of the further runs over those of a final run.
        gain: by how much the median half-width shrinks per final run spent; None where the step
            costs nothing or half-widths are not known.
        decides: doubtful weights whose interval would exclude 1, if they are where they seem to be.
    """

    step: str
    change: str
    half_width: float | None
    doubtful_half_width: float | None
    cost: float
    gain: float | None
    decides: tuple[str, ...]


@dataclass(frozen=True)
class Advice:
    """Where to spend the next run.

    Attributes:
        half_width, doubtful_half_width: those of `NextStep`, with the present scores.
        doubtful: units whose weight may be 1 after all.
        assumed_noise: whether the noise of training is that of `pocket`, because no run was trained
            twice.
        steps: what could be done.
    """

    half_width: float | None
    doubtful_half_width: float | None
    doubtful: tuple[str, ...]
    assumed_noise: bool
    steps: tuple[NextStep, ...]

    def to_json(self) -> dict[str, Any]:
        """As `cotbal plan --next --json` prints it."""
        return asdict(self)


def expected(prepared: Prepared) -> float | None:
    """Median half-width of the 95 % intervals of the weights that the planned probes can be
    expected to give, with gains and noise as on `pocket`; None without probes.
    """
    if not any(p.kind == "probe" for p in prepared.plan.runs):
        return None
    recipe, of_task = prepared.recipe, units(prepared.recipe)
    counts = prepared.inputs.evaluation
    samples = {task: counts[set_name(task, "validation")] for task in of_task}
    settings = recipe.file.balance
    return expected_half_width(samples, of_task, settings, recipe.replicates, len(recipe.seeds))


def advise(prepared: Prepared) -> Advice:
    """What one more replicate, one more seed, larger minis or more samples would change.

    Raises:
        RunError: a probe of the recipe is not done in the run directory.
    """
    recipe, of_task = prepared.recipe, units(prepared.recipe)
    settings, portions = recipe.file.balance, recipe.file.portions
    matrices = finished_matrices(recipe, prepared.root)
    result = balance_scores(matrices, of_task, settings)
    ratio = float(portions.large / portions.mini)
    after = {outlook.step: outlook for outlook in outlooks(matrices, of_task, settings, ratio)}
    now = after["now"]
    # An interval of the sampling error alone may exclude 1 where the noise of training would not.
    known = [unit for unit in now.decides(result.weights) if result.weight(unit).excludes(1)]
    doubtful = tuple(unit for unit in result.units if unit not in known)
    steps = []
    for option in _options(prepared):
        outlook = after[option.step]
        decided = outlook.decides(result.weights)
        width = _median(outlook, result.units)
        step = NextStep(
            step=option.step,
            change=option.change,
            half_width=width,
            doubtful_half_width=_median(outlook, doubtful),
            cost=option.cost,
            gain=_gain(_median(now, result.units), width, option.cost),
            decides=tuple(unit for unit in doubtful if unit in decided),
        )
        steps.append(step)
    return Advice(
        half_width=_median(now, result.units),
        doubtful_half_width=_median(now, doubtful),
        doubtful=doubtful,
        assumed_noise=now.assumed_noise,
        steps=tuple(steps),
    )


@dataclass(frozen=True)
class _Option:
    step: Step
    change: str
    cost: float


def _options(prepared: Prepared) -> list[_Option]:
    """The steps that are possible for the recipe, with their costs."""
    recipe, sizes = prepared.recipe, prepared.inputs.sizes
    rate = 2 * recipe.file.portions.mini
    seed = recipe.seeds[0] + 1
    while seed in recipe.seeds:
        seed += 1
    options = []
    if len(recipe.seeds) == 1:
        count = recipe.replicates + 1
        runs = _further(prepared, recipe.seeds, count)
        change = f"balance.replicates={count}"
        options.append(_Option("replicate", change, _share(prepared, runs, sizes)))
    runs = _further(prepared, (*recipe.seeds, seed), 1)
    change = f"balance.seeds={[*recipe.seeds, seed]}"
    options.append(_Option("seed", change, _share(prepared, runs, sizes)))
    # Other minis or validation sets make every probe another run.
    if rate < recipe.file.portions.large:
        larger = {
            task: {**records, "mini": portion_size(records["full"], rate)}
            for task, records in sizes.items()
        }
        price = _share(prepared, recipe.probe_runs, larger)
        options.append(_Option("mini", f"portions.mini={rate}", price))
    price = _share(prepared, recipe.probe_runs, sizes)
    options.append(_Option("samples", "validation sets of twice the size", price))
    return options


def _further(prepared: Prepared, seeds: Sequence[int], replicates: int) -> list[Run]:
    """The probes that such settings need and that are not done."""
    recipe = prepared.recipe
    section = recipe.file.balance
    own_seed = recipe.file.optimization.seed
    further = []
    for run in plan_probes(recipe.mixture, section.form, section.difficulty, seeds, replicates):
        if not paths_of(run, "probe", prepared.root, own_seed).done:
            further.append(run)
    return further


def _share(prepared: Prepared, runs: Iterable[Run], sizes: Sizes) -> float:
    return sum(cost(run, sizes) for run in runs) / prepared.plan.final_records


def _median(outlook: Outlook, chosen: Sequence[str]) -> float | None:
    widths = [outlook.half_widths[unit] for unit in chosen]
    known = [width for width in widths if not math.isnan(width)]
    return median(known) if known else None


def _gain(before: float | None, after: float | None, price: float) -> float | None:
    if before is None or after is None or not price:
        return None
    return (before - after) / price
