"""How often do the intervals hold? Coverage and width of every kind of interval, under one seed,
replicates of the mini and whole sets of probes.

    python benchmarks/calibration.py simulated [--tasks 7] [--mixtures 100]
    python benchmarks/calibration.py measured benchmarks/results/data/pocket_demo

`simulated` draws score matrices with a known truth. `measured` reads whole sets of probes of
several training seeds: an interval from some seeds should hold what the scores of the other seeds
say. `export RUN DIRECTORY` writes them from a run directory with several `balance.seeds`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cotbal.balance import Balance, Settings, balance
from cotbal.balance.improvement import improvement, task_improvements
from cotbal.balance.measures import measure
from cotbal.balance.probes import MINI, full_run, read_probes, replicate_name
from cotbal.balance.uncertainty import resample_scores
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.weigh import matrices_of
from cotbal.scores.interval import Interval, interval_of_draws
from cotbal.scores.matrix import (
    Samples,
    ScoreMatrix,
    matrix_of_samples,
    mean_matrix,
    read_scores,
    stacked,
)
from cotbal.scores.results import Column

QUANTITIES = ("weight", "outward", "inward", "difficulty", "contribution")
DESIGNS = ("one seed, samples only", "mini x 2", "mini x 3", "2 seeds", "3 seeds")


@dataclass(frozen=True)
class Mixture:
    """What a simulated mixture is like.

    Attributes:
        tasks: number of tasks.
        samples: validation samples per task.
        noise: standard deviation of a cross cell between training seeds, as a share of the task's
            own score.
        unequal: standard deviation of the logarithm of the noise between tasks.
        cells: the same between the cells of the score matrix of a task.
        mini: noise of the mini, as a share of that of cross cells.
        own_noise: noise of a task's score by its own probe, as a multiple of that of cross cells.
        tails: degrees of freedom of the noise (Student's t); infinity for the normal distribution.
        common: share of the samples whose luck is one for all runs.
        alike: all tasks have the same gain and give each other the same, so that every weight is 1.
    """

    tasks: int = 7
    samples: int = 400
    noise: float = 0.07
    unequal: float = 0.25
    cells: float = 0.35
    mini: float = 0.71
    own_noise: float = 1.43
    tails: float = np.inf
    common: float = 0.6
    alike: bool = False


@dataclass(frozen=True)
class Truth:
    """A mixture with its expected scores, and a source of trainings.

    Attributes:
        scores: expected score of every run, 0 to 1.
        deviation: of a score between training seeds.
        names: of the runs; by default those of the probes.
    """

    mixture: Mixture
    scores: Float[np.ndarray, "run task"]
    deviation: Float[np.ndarray, "run task"]
    names: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(f"t{i}" for i in range(self.mixture.tasks))

    @property
    def runs(self) -> tuple[str, ...]:
        return self.names or (MINI, *map(full_run, self.tasks))

    def matrix(self) -> ScoreMatrix:
        """The expected scores as a bare table."""
        return ScoreMatrix(self.runs, self.tasks, self.scores)

    def train(
        self, luck: Float[np.ndarray, "sample task"], rng: np.random.Generator
    ) -> ScoreMatrix:
        """One whole set of probes: its scores on samples whose difficulty is `luck`."""
        noise = rng.standard_normal(self.scores.shape)
        if np.isfinite(self.mixture.tails):
            chance = rng.chisquare(self.mixture.tails, self.scores.shape)
            # Scaled to a standard deviation of 1.
            noise /= np.sqrt(chance / (self.mixture.tails - 2))
        levels = np.clip(self.scores + noise * self.deviation, 0.0, 1.0)
        own_luck = rng.uniform(size=(len(self.runs), *luck.shape))
        shared = rng.uniform(size=luck.shape) < self.mixture.common
        right = np.where(shared, luck, own_luck) < levels[:, None, :]
        samples = {
            task: Samples(
                right[..., j].astype(float), np.arange(len(luck)), 1.0, np.zeros(len(luck))
            )
            for j, task in enumerate(self.tasks)
        }
        return matrix_of_samples(self.runs, samples)

    def luck(self, rng: np.random.Generator) -> Float[np.ndarray, "sample task"]:
        """A validation set: the share of models that get each sample wrong."""
        return rng.uniform(size=(self.mixture.samples, self.mixture.tasks))


def draw_truth(mixture: Mixture, rng: np.random.Generator) -> Truth:
    """A mixture whose every task gains clearly from its own data."""
    tasks = mixture.tasks
    mini = rng.uniform(0.15, 0.5, tasks)
    gain = rng.uniform(0.15, 0.45, tasks)
    given = rng.normal(0.2, 0.25, (tasks, tasks))
    if mixture.alike:
        mini, gain, given = np.full(tasks, 0.35), np.full(tasks, 0.3), np.full((tasks, tasks), 0.2)
    np.fill_diagonal(given, 1.0)
    scores = np.vstack([mini, np.clip(mini + given * gain, 0.01, 0.99)])
    between = mixture.unequal * rng.standard_normal(tasks)
    within = mixture.cells * rng.standard_normal(scores.shape)
    deviation = mixture.noise * (mini + gain) * np.exp(between + within)
    deviation[0] *= mixture.mini
    deviation[1:][np.eye(tasks, dtype=bool)] *= mixture.own_noise
    return Truth(mixture, scores, deviation)


def replicated(sets: Sequence[ScoreMatrix], minis: int) -> ScoreMatrix:
    """The first set with the mini of the next ones as replicates."""
    parts = [sets[0]]
    for number in range(2, minis + 1):
        mini = sets[number - 1].rows([MINI])
        parts.append(replace(mini, runs=(replicate_name(MINI, number),)))
    return stacked(parts)


def designed(design: str, sets: Sequence[ScoreMatrix]) -> list[ScoreMatrix]:
    """What a design of `DESIGNS` measures, from whole sets of probes."""
    number = {"2": 2, "3": 3}.get(design.split(" ", maxsplit=1)[0], 1)
    if design.startswith("mini x "):
        return [replicated(sets, int(design[-1]))]
    return list(sets[:number])


def trainings_of(design: str) -> int:
    """How many sets a design needs at most."""
    return {"mini x 2": 2, "mini x 3": 3, "2 seeds": 2, "3 seeds": 3}.get(design, 1)


def values_of(result: Balance) -> dict[str, list[Interval]]:
    """Every interval of a result, by quantity; contributions between different units only."""
    given = [
        cell for i, row in enumerate(result.contributions()) for j, cell in enumerate(row) if i != j
    ]
    return {
        "weight": result.part("all"),
        **{name: result.measure(name) for name in ("outward", "inward", "difficulty")},
        "contribution": given,
    }


@dataclass
class Tally:
    """What was seen of one kind of interval under one design."""

    held: list[bool] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    claims: list[bool] = field(default_factory=list)

    def add(self, interval: Interval, truth: float, reference: float) -> None:
        if not interval.has_bounds or np.isnan(truth):
            return
        self.held.append(bool(interval.low <= truth <= interval.high))
        self.widths.append(interval.half_width)
        self.errors.append(interval.value - truth)
        self.claims.append(interval.excludes(reference))

    @property
    def coverage(self) -> float:
        return float(np.mean(self.held)) if self.held else np.nan

    @property
    def width(self) -> float:
        return float(np.median(self.widths)) if self.widths else np.nan

    @property
    def oracle(self) -> float:
        """Half the middle 95 % of the errors: the half-width of an interval of one width for all
        that holds in 95 % of cases, known only to who knows the truth."""
        return float(np.quantile(np.abs(self.errors), 0.95)) if self.errors else np.nan


Tallies = dict[tuple[str, str], Tally]


def tally(tallies: Tallies, design: str, result: Balance, truth: Balance) -> None:
    """Count the intervals of `result` that hold the values of `truth`."""
    known = values_of(truth)
    for quantity, intervals in values_of(result).items():
        reference = 1.0 if quantity == "weight" else 0.0
        for interval, true in zip(intervals, known[quantity], strict=True):
            tallies[design, quantity].add(interval, true.value, reference)


def simulated(
    mixture: Mixture, mixtures: int, seed: int = 0, designs: Sequence[str] = DESIGNS
) -> Tallies:
    """Every design on `mixtures` mixtures that are drawn at random, each trained once."""
    rng = np.random.default_rng(seed)
    tallies: Tallies = defaultdict(Tally)
    # No guard in the truth: bare tables are never flagged where the gains are this large.
    for _ in range(mixtures):
        truth = draw_truth(mixture, rng)
        luck = truth.luck(rng)
        sets = [truth.train(luck, rng) for _ in range(3)]
        exact = balance(truth.matrix(), settings=SETTINGS)
        for design in designs:
            tally(tallies, design, balance(designed(design, sets), settings=SETTINGS), exact)
    return tallies


SETTINGS = Settings(bootstrap=400)


def measured(
    sets: Sequence[ScoreMatrix], designs: Sequence[str] = DESIGNS, bootstrap: int = 2000
) -> Tallies:
    """Every design on whole sets of probes that were trained with different seeds; the truth is
    what the mean scores of the seeds that a design did not use say.
    """
    tallies: Tallies = defaultdict(Tally)
    settings = SETTINGS.changed(bootstrap=bootstrap)
    for design in designs:
        used = trainings_of(design)
        for first in range(len(sets)):
            turned = [*sets[first:], *sets[:first]]
            exact = balance(_others(design, turned, used), settings=settings)
            tally(tallies, design, balance(designed(design, turned), settings=settings), exact)
    return tallies


def _others(design: str, sets: Sequence[ScoreMatrix], used: int) -> ScoreMatrix:
    """Mean scores of what a design did not use: it may use minis of sets whose other probes it does
    not.
    """
    minis = mean_matrix(sets[used:]).rows([MINI])
    givers = mean_matrix(sets[1:] if design.startswith("mini x ") else sets[used:])
    owners = givers.rows([run for run in givers.runs if run != MINI])
    return replace(stacked([minis, owners]), samples={})


def show_noise(sets: Sequence[ScoreMatrix]) -> Iterator[str]:
    """What the noise of training looks like, in Markdown."""
    values = np.stack([matrix.values for matrix in sets])
    largest = values.mean(axis=0).max(axis=0)
    variances = (values / largest).var(axis=0, ddof=1)
    own_variances = np.diag(variances[1:])
    cross = variances[1:][~np.eye(len(own_variances), dtype=bool)]
    yield "| cells | standard deviation between seeds, share of the task's largest score |"
    yield "| :-- | --: |"
    for name, part in (("mini", variances[0]), ("own probe", own_variances), ("cross", cross)):
        yield f"| {name} | {np.sqrt(part.mean()):.3f} |"
    yield f"| all but the mini | {np.sqrt(variances[1:].mean()):.3f} |"
    by_task = np.sqrt(variances.mean(axis=0))
    yield f"| by task | {by_task.min():.3f} to {by_task.max():.3f} |"
    yield f"| by cell | {np.sqrt(variances.min()):.3f} to {np.sqrt(variances.max()):.3f} |"
    deviations = (values - values.mean(axis=0)) / values.std(axis=0, ddof=1)
    of_runs = [_mean_correlation(deviations[:, :, j].T) for j in range(len(largest))]
    of_tasks = [_mean_correlation(deviations[:, i].T) for i in range(values.shape[1])]
    yield ""
    yield (
        f"Mean correlation between the runs of a seed {np.mean(of_runs):+.3f}, between the tasks of"
        f" a run {np.mean(of_tasks):+.3f} (n = {len(sets)} seeds)."
    )


def _mean_correlation(rows: Float[np.ndarray, "row seed"]) -> float:
    return float(np.corrcoef(rows)[np.triu_indices(len(rows), 1)].mean())


def read_sets(directory: Path) -> list[ScoreMatrix]:
    """What `export` wrote: whole sets of probes, one per training seed."""
    kept = np.load(directory / "samples.npz")
    sets = []
    for path in sorted(directory.glob("seed-*.csv"), key=lambda path: int(path.stem[5:])):
        table = read_scores(path)
        samples = {}
        for task in table.tasks:
            samples[task] = Samples(
                kept[f"{path.stem}/{task}"].astype(float),
                kept[f"clusters/{task}"],
                float(kept[f"maximum/{task}"]),
                kept[f"constant/{task}"].astype(float),
            )
        sets.append(replace(table, samples=samples))
    return sets


def export(run: Path, directory: Path) -> None:
    """Keep the scores of a run directory whose probes were trained with several `balance.seeds`:
    a table per seed, and the score of every sample in half precision.
    """
    recipe, matrices = matrices_of(RunDir(run))
    directory.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    for seed, matrix in zip(recipe.seeds, matrices, strict=True):
        (directory / f"seed-{seed}.csv").write_text(matrix.to_csv(), encoding="utf-8")
        for task, column in matrix.samples.items():
            assert column.constant is not None
            arrays[f"seed-{seed}/{task}"] = column.values.astype(np.float16)
            arrays[f"clusters/{task}"] = column.clusters.astype(np.int32)
            arrays[f"maximum/{task}"] = np.array(column.maximum)
            arrays[f"constant/{task}"] = column.constant.astype(np.float16)
    np.savez_compressed(directory / "samples.npz", **arrays)


def paired(
    mixture: Mixture, seeds: int, studies: int, seed: int = 0, tasks_alike: float = 0.3
) -> tuple[float, float, int]:
    """Coverage and median half-width of the interval of a difference of two methods, and how many
    studies have one: improvement over the first (Eq. 13), models of the same training seeds, as
    `cotbal compare` computes it.

    Args:
        tasks_alike: correlation of the noise of the two models of a seed.
    """
    rng = np.random.default_rng(seed)
    columns = tuple(Column(f"t{j}", "score") for j in range(mixture.tasks))
    held, widths = [], []
    for _ in range(studies):
        first = rng.uniform(0.4, 0.8, mixture.tasks)
        levels = np.stack([first, first * (1 + rng.normal(0.0, 0.03, mixture.tasks))])
        luck = rng.uniform(size=(mixture.samples, mixture.tasks))
        matrices = []
        for _ in range(seeds):
            common = rng.standard_normal(levels.shape[1]) * np.sqrt(tasks_alike)
            own_luck = rng.standard_normal(levels.shape) * np.sqrt(1 - tasks_alike)
            trained = np.clip(levels + mixture.noise * first * (common + own_luck), 0, 1)
            truth = Truth(mixture, trained, np.zeros_like(trained), ("ew", "cotbal"))
            matrices.append(truth.train(luck, rng))
        mean = mean_matrix(matrices)
        draws = np.concatenate([mean.values[None], resample_scores(matrices, 400, 0)])
        change = improvement(task_improvements(draws, columns, 0))[:, 1]
        true = improvement(task_improvements(levels[None], columns, 0))[0, 1]
        interval = interval_of_draws(change)
        if interval.has_bounds:  # with two seeds, draws of a score below 0 take it away
            held.append(interval.low <= true <= interval.high)
            widths.append(interval.half_width)
    return float(np.mean(held)), float(np.median(widths)), len(held)


@dataclass(frozen=True)
class Share:
    """Weights from so many identified units, against equal weights.

    Attributes:
        identified: number of units whose gain and score are more than noise.
        error: median over mixtures of the mean squared error of the weights.
        equal: the same of equal weights.
        better: share of the mixtures where the weights are nearer to the true ones.
    """

    identified: int
    error: float
    equal: float
    better: float


def shares(mixture: Mixture, mixtures: int, seed: int = 0) -> list[Share]:
    """From how many identified units on weights are better than equal ones: the mini trained three
    times, units left out at random.
    """
    rng = np.random.default_rng(seed)
    errors = np.empty((mixtures, mixture.tasks, 2))
    for k in range(mixtures):
        truth = draw_truth(mixture, rng)
        probes = read_probes(truth.matrix())
        true = measure(truth.scores, probes).parts(0.5)["all"]
        luck = rng.standard_normal(mixture.tasks) * np.sqrt(mixture.common)
        luck = luck + rng.standard_normal(truth.scores.shape) * np.sqrt(1 - mixture.common)
        noise = rng.standard_normal(truth.scores.shape) * truth.deviation
        noise[0] /= np.sqrt(3)
        of_samples = np.sqrt(truth.scores * (1 - truth.scores) / mixture.samples)
        seen = truth.scores + of_samples * luck + noise
        for identified in range(1, mixture.tasks + 1):
            chosen = np.isin(np.arange(mixture.tasks), rng.permutation(mixture.tasks)[:identified])
            some = replace(probes, has_gain=chosen, has_score=chosen)
            weights = measure(seen, some).parts(0.5)["all"]
            errors[k, identified - 1] = np.mean((weights - true) ** 2), np.mean((1 - true) ** 2)
    rows = []
    for number, (of_weights, of_equal) in enumerate(errors.transpose(1, 2, 0), start=1):
        medians = float(np.median(of_weights)), float(np.median(of_equal))
        rows.append(Share(number, *medians, float(np.mean(of_weights < of_equal))))
    return rows


def show_paired(mixture: Mixture, studies: int) -> Iterator[str]:
    """The table in Markdown."""
    yield "| training seeds | studies with an interval | coverage | median half-width, points |"
    yield "| --: | --: | --: | --: |"
    for seeds in (1, 2, 3, 5, 8):
        coverage, width, number = paired(mixture, seeds, studies)
        yield f"| {seeds} | {number} of {studies} | {coverage:.3f} | {width:.2f} |"


def show_shares(mixture: Mixture, shares_of_gain: Sequence[Share]) -> Iterator[str]:
    """The table in Markdown."""
    yield f"| identified of {mixture.tasks} | median squared error | equal | nearer than equal |"
    yield "| --: | --: | --: | --: |"
    for row in shares_of_gain:
        yield f"| {row.identified} | {row.error:.4f} | {row.equal:.4f} | {row.better:.2f} |"


def show(tallies: Tallies, designs: Sequence[str]) -> Iterator[str]:
    """A table in Markdown: coverage, median half-width and its ratio to the oracle's."""
    yield "| design | quantity | n | coverage | median half-width | oracle | excludes 1 or 0 |"
    yield "| :-- | :-- | --: | --: | --: | --: | --: |"
    for design in designs:
        for quantity in QUANTITIES:
            seen = tallies[design, quantity]
            claims = float(np.mean(seen.claims)) if seen.claims else np.nan
            yield (
                f"| {design} | {quantity} | {len(seen.held)} | {seen.coverage:.3f}"
                f" | {seen.width:.3f} | {seen.oracle:.3f} | {claims:.2f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    of_simulation = commands.add_parser("simulated")
    of_simulation.add_argument("--tasks", type=int, default=7)
    of_simulation.add_argument("--mixtures", type=int, default=100)
    of_simulation.add_argument("--tails", type=float, default=np.inf)
    of_simulation.add_argument("--alike", action="store_true")
    of_simulation.add_argument("--noise", type=float, default=0.07)
    of_simulation.add_argument("--paired", action="store_true", help="differences of final models")
    of_simulation.add_argument("--shares", action="store_true", help="how many units must be known")
    of_simulation.set_defaults(command="simulated")
    of_data = commands.add_parser("measured")
    of_data.add_argument("directory", type=Path)
    of_data.set_defaults(command="measured")
    of_export = commands.add_parser("export")
    of_export.add_argument("run", type=Path)
    of_export.add_argument("directory", type=Path)
    of_export.set_defaults(command="export")
    given = parser.parse_args()
    if given.command == "export":
        export(given.run, given.directory)
        return
    if given.command == "measured":
        sets = read_sets(given.directory)
        for line in (*show_noise(sets), "", *show(measured(sets), DESIGNS)):
            print(line)
        return
    mixture = Mixture(given.tasks, noise=given.noise, tails=given.tails, alike=given.alike)
    if given.shares:
        lines = show_shares(mixture, shares(mixture, given.mixtures))
    elif given.paired:
        lines = show_paired(mixture, given.mixtures)
    else:
        lines = show(simulated(mixture, given.mixtures), DESIGNS)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
