"""Do weights that `cotbal steer` chooses do what it predicts? A study from trials to final models.

    cotbal prepare pocket DIR --mix skewed --size study
    python benchmarks/steering.py plan DIR/recipe.yaml --out RUN
    python benchmarks/steering.py run DIR/recipe.yaml --out RUN --threads 1
    python benchmarks/steering.py measure RUN/tables

`run` executes the commands that `plan` shows, in this order: trials on all data, and as `cotbal
response` plans them by default; weights and frozen predictions for every goal; final models with
equal weights and with those of every goal, on fresh seeds. Goals for which equal weights are kept
are not trained again. Options add other methods, the best of random weights at the cost of the
trials, and sampling ratios at the design points of the weights; `--lever ratios` chooses sampling
ratios instead of weights of the loss. Rerun it to resume. `measure` needs
the tables alone, such as those in benchmarks/results/data.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cotbal.data.files import locked, read_json, write_json, write_text
from cotbal.jobs.execute import Options
from cotbal.jobs.executors import Resources
from cotbal.jobs.pipeline import FIXED, do, prepare
from cotbal.jobs.plan import Kind, Planned, Prepared
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.weigh import task_weights
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import Run, final_run
from cotbal.response import Response, Trials, fit_response, read_prediction
from cotbal.response.coordinates import weights_at
from cotbal.response.lever import LEVERS, WEIGHTS
from cotbal.response.prediction import mean_over_seeds
from cotbal.scores.interval import Interval
from steering_measures import (
    BASELINE,
    MEAN,
    SCORE,
    Study,
    agreement,
    best_trial,
    headroom_sentence,
    levers,
    mean_change,
    method_of,
    names_of,
    noise_of_mean,
    outcomes,
    read_study,
    regrets,
    steered,
)

RANDOM = "random"
COTBAL, SIMPLE = "cotbal", "cotbal-simple"
RANDOM_STEP = 0.5  # standard deviation of the doublings of random weights
FULL, CHEAP, TABLES = "full", "cheap", "tables"
RATIOS = {FULL: "ratios", CHEAP: "cheap-ratios"}


@dataclass(frozen=True)
class Settings:
    """What a study consists of.

    Attributes:
        goals: `mean`, or tasks joined by `+`.
        seeds: of the final models, different from those of the trials.
        others: further methods of the final models, such as `cotbal`; `cotbal-simple` is its
            simple form.
        lever: `weights`, or `ratios` for a study of sampling ratios, which has no cheap trials.
        ratios: trials whose design points are repeated with sampling ratios, `full` or `cheap`.
        random: number of random weights that are tried; 0 for none.
    """

    recipe: Path
    out: Path
    goals: tuple[str, ...]
    seeds: tuple[int, ...]
    floor: str
    others: tuple[str, ...]
    lever: str
    ratios: str | None
    random: int
    resources: Resources

    @property
    def job(self) -> list[str]:
        workers, threads = self.resources.workers, self.resources.threads
        return ["--workers", str(workers), "--threads", str(threads)]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the trials from which weights are chosen."""
        return (FULL, CHEAP) if self.lever == WEIGHTS.name else (FULL,)

    @property
    def ratio_trials(self) -> Path:
        return self.out / RATIOS[self.ratios or FULL]


def measurements(settings: Settings) -> Iterator[list[str]]:
    """Arguments of `cotbal` up to the frozen predictions; each resumes what is not done."""
    recipe, portion = str(settings.recipe), {FULL: ["--fraction", "1"], CHEAP: []}
    lever = [] if settings.lever == WEIGHTS.name else ["--lever", settings.lever]
    trials = {kind: str(settings.out / kind) for kind in settings.kinds}
    for kind, out in trials.items():
        yield ["response", recipe, *portion[kind], *lever, "--out", out, *settings.job]
    for out in trials.values():
        for goal in settings.goals:
            wanted = ["--goal", goal.replace("+", ","), "--floor", settings.floor]
            yield ["steer", out, *wanted]
    if settings.ratios:
        lever = [*portion[settings.ratios], "--lever", "ratios"]
        yield ["response", recipe, *lever, "--out", str(settings.ratio_trials), *settings.job]


def comparisons(settings: Settings, methods: Sequence[str]) -> Iterator[list[str]]:
    """Arguments of `cotbal` that train the final models. The simple form has probes of its own,
    and so a run directory of its own.
    """
    seeds, recipe = ",".join(map(str, settings.seeds)), str(settings.recipe)
    named = [method for method in methods if method != SIMPLE]
    wanted = ["--methods", ",".join(named), "--seeds", seeds, "--out", str(settings.out / FULL)]
    yield ["compare", recipe, *wanted, *settings.job]
    if SIMPLE in methods:
        wanted = ["--methods", COTBAL, "--seeds", seeds, "--out", str(settings.out / SIMPLE)]
        yield ["compare", recipe, "balance.form=simple", *wanted, *settings.job]


def methods_of(settings: Settings, goals: Sequence[str]) -> list[str]:
    """Methods of the final models, equal weights first."""
    return [BASELINE, *settings.others, *map(method_of, goals)]


def changed(settings: Settings) -> list[str]:
    """The goals for which other than equal weights were chosen."""
    response = settings.out / FULL / "response"
    predictions = {
        goal: read_prediction(response / f"prediction-{goal}.json") for goal in settings.goals
    }
    return [goal for goal, prediction in predictions.items() if not prediction["keep_equal"]]


def run(settings: Settings) -> None:
    """Execute the study and write its tables."""
    for command in measurements(settings):
        _execute(command)
    methods = methods_of(settings, changed(settings))
    for command in comparisons(settings, methods):
        _execute(command)
    if settings.random:
        train_random(settings)
    collect(settings, methods)


def _execute(command: Sequence[str]) -> None:
    print(f"$ cotbal {shlex.join(command)}", flush=True)
    subprocess.run([sys.executable, "-m", "cotbal", *command], check=True)


def random_weights(units: Sequence[str], count: int) -> list[dict[str, float]]:
    """Equal weights, then `count` random ones, the same for the same units."""
    generator = np.random.default_rng(0)
    drawn = RANDOM_STEP * generator.standard_normal((count, len(units)))
    rows = [np.zeros(len(units)), *(drawn - drawn.mean(axis=1, keepdims=True))]
    return [dict(zip(units, weights_at(z).tolist(), strict=True)) for z in rows]


def train_random(settings: Settings) -> None:
    """Try random weights on the validation sets, then train final models with the best ones."""
    recipe = load_recipe(settings.recipe)
    root = RunDir(settings.out / RANDOM)
    tasks = tuple(task.name for task in recipe.mixture.tasks)
    seed, mixture = recipe.file.optimization.seed, recipe.mixture
    tried = random_weights(mixture.units, settings.random)
    portions = dict.fromkeys(tasks, "full")
    runs = [Run(f"try-{k}", portions, FIXED, tasks, (), seed) for k in range(len(tried))]
    weights = {run.name: task_weights(mixture, w) for run, w in zip(runs, tried, strict=True)}
    planned = _executed(settings, prepare(recipe, root, [(run, "final") for run in runs]), weights)
    scores = np.array([[validation_score(p, task) for task in tasks] for p in planned])
    values = np.array([[w[unit] for unit in mixture.units] for w in tried])
    table = Trials(mixture.units, tasks, values, scores, (str(seed),) * len(tried))
    write_text(root.root / "random.csv", table.to_csv())
    best = weights[runs[best_of(table)].name]
    write_json(root.root / "best.json", best)
    finals: list[tuple[Run, Kind]] = [
        (final_run(mixture, FIXED, seed, RANDOM), "final") for seed in settings.seeds
    ]
    _executed(settings, prepare(recipe, root, finals), {RANDOM: best})


def best_of(table: Trials) -> int:
    """Index of the weights with the best mean of scores relative to equal weights, the first
    row.
    """
    columns = [table.scored.index(task) for task in table.tasks]
    relative = table.scores[:, columns] / table.scores[0, columns]
    return int(relative.mean(axis=1).argmax())


def _executed(
    settings: Settings, prepared: Prepared, weights: dict[str, dict[str, float]]
) -> tuple[Planned, ...]:
    with locked(prepared.root.lock):
        do(prepared, prepared.plan.runs, Options(resources=settings.resources), weights)
    return tuple(prepared.plan.runs)


def validation_score(planned: Planned, task: str) -> float:
    return _score(planned.paths.scores(task, "validation"))


def _score(path: Path) -> float:
    metrics = read_json(path)["metrics"]
    [first, *_] = metrics.values()
    return float(first["score"])


def collect(settings: Settings, methods: Sequence[str]) -> None:
    """Copy tables and predictions of the study into one folder, and write its final scores."""
    tables = settings.out / TABLES
    tables.mkdir(parents=True, exist_ok=True)
    for kind in (FULL, CHEAP, *RATIOS.values()):
        trials = settings.out / kind / "response" / "trials.csv"
        if trials.exists():
            shutil.copy(trials, tables / f"trials-{kind}.csv")
    for kind, prefix in zip(settings.kinds, ("prediction", "cheap"), strict=False):
        for goal in settings.goals:
            frozen = settings.out / kind / "response" / f"prediction-{goal}.json"
            shutil.copy(frozen, tables / f"{prefix}-{goal}.json")
    trained = dict.fromkeys(methods, settings.out / FULL)
    if SIMPLE in methods:
        trained[SIMPLE] = settings.out / SIMPLE
    if settings.random:
        shutil.copy(settings.out / RANDOM / "random.csv", tables)
        trained[RANDOM] = settings.out / RANDOM
    rows = final_scores(load_recipe(settings.recipe), trained, settings.seeds)
    with (tables / "finals.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def final_scores(
    recipe: Recipe, methods: dict[str, Path], seeds: Sequence[int]
) -> Iterator[list[str]]:
    """Header and rows of `finals.csv`: the mean over test splits of every task.

    Args:
        methods: method -> run directory of its final models.
    """
    tested = [task for task in recipe.mixture.tasks if task.test]
    yield ["method", "seed", *(SCORE + task.name for task in tested)]
    for method, directory in methods.items():
        for seed in seeds:
            root = RunDir(directory)
            if seed != recipe.file.optimization.seed:
                root = root.seeded(seed)
            paths = root.final(COTBAL if method == SIMPLE else method)
            scores = [
                np.mean([_score(paths.scores(task.name, split)) for split in task.test])
                for task in tested
            ]
            yield [method, str(seed), *(repr(float(score)) for score in scores)]


def percent(interval: Interval) -> str:
    """A change with its interval."""
    if not interval.has_bounds:
        return f"{interval.value:+.2f}"
    return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def report(study: Study) -> Iterator[str]:
    """Every table of the study, all changes in % of the scores at equal weights."""
    response = fit_response(study.trials)
    yield "## Predicted and observed changes\n"
    pairs = list(outcomes(study))
    if pairs:
        yield table(
            ["goal", "task", "predicted", "observed", "inside"],
            [
                [goal, o.task, percent(o.predicted), f"{o.observed:+.2f}", "yes" * o.inside]
                for goal, o in pairs
            ],
        )
        numbers = [f"{name} {value:.3g}" for name, value in agreement(pairs).items()]
        yield ", ".join(numbers) + "\n"
    yield "## Gain of the goal, and guarded tasks\n"
    yield gains(study)
    yield "## The mean over tasks\n"
    yield from of_mean(study, response)
    yield "## Every task by method\n"
    yield of_tasks(study)
    if study.cheap_weights:
        yield "## Weights from the cheap trials, valued by the full ones\n"
        yield table(
            ["goal", "gain, full", "gain, cheap", "lost", "below the floor"],
            [
                [r.goal, f"{r.full:+.2f}", f"{r.cheap:+.2f}", f"{r.lost:.2f}", _changes(r.below)]
                for r in regrets(study)
            ],
        )
    for weights, ratios in study.both_levers:
        yield "## Sampling ratios minus loss weights, at the same design points\n"
        yield of_levers(weights, ratios)


def gains(study: Study) -> str:
    """By goal: what its weights were predicted to do and did, and what the best of random weights
    did for the same tasks.
    """
    rows = []
    for goal, prediction in study.predictions.items():
        methods = [m for m in (method_of(goal), RANDOM) if m in study.finals.scores]
        for method in methods:
            row = steered(study, goal, method)
            predicted = f"{row.predicted:+.2f}" if method != RANDOM else "-"
            kept = " (equal weights)" * (prediction["keep_equal"] and method != RANDOM)
            listed = [", ".join(names) or "-" for names in (row.below, row.violated)]
            rows.append([goal, method + kept, predicted, percent(row.gain), *listed])
    header = ["goal", "method", "predicted", "observed", "below the floor", "beyond noise"]
    return table(header, rows)


def of_mean(study: Study, response: Response) -> Iterator[str]:
    """Headroom, whether a trial contradicts it, and the mean of every method."""
    yield headroom_sentence(response) + "\n"
    names = names_of(MEAN, response)
    noise = noise_of_mean(response, names)
    for name, trials in (("designed", study.trials), (RANDOM, study.random)):
        if trials is not None:
            best = best_trial(trials, names, noise)
            yield (
                f"Best of {best.count} {name} weights on the validation sets: {best.best:+.2f} %"
                f" (luck alone: up to {best.luck:+.2f} %).\n"
            )
    methods = [method for method in study.finals.scores if method != BASELINE]
    yield table(
        ["method", "mean over tasks minus equal weights"],
        [[method, percent(mean_change(study, method, names))] for method in methods],
    )


def of_tasks(study: Study) -> str:
    """Change of the test score of every task with every method, against equal weights."""
    methods = [method for method in study.finals.scores if method != BASELINE]
    rows = []
    for column, task in enumerate(study.finals.tasks):
        by_seed = [study.finals.changes(method)[:, column] for method in methods]
        rows.append([task, *(percent(mean_over_seeds(changes)) for changes in by_seed)])
    return table(["task", *methods], rows)


def of_levers(weights: Trials, ratios: Trials) -> str:
    comparison = levers(weights, ratios)
    rows = [
        [task, percent(change), *map(percent, comparison.own_effects.get(task, ()))]
        for task, change in comparison.difference.items()
    ]
    rows = [[*row, *["-"] * (4 - len(row))] for row in rows]
    rows.append(["mean", percent(comparison.of_mean), "-", "-"])
    header = ["task", "ratios - weights", "own effect, weights", "own effect, ratios"]
    return (
        table(header, rows)
        + "\nCorrelation of the effects on scores that both can measure:"
        + f" {comparison.correlation:.2f}, of cross effects {comparison.cross_correlation:.2f}\n"
    )


def _changes(changes: dict[str, float]) -> str:
    return ", ".join(f"{task} {value:+.2f}" for task, value in changes.items()) or "-"


def in_order(goal: str, recipe: Recipe) -> str:
    """The tasks of a goal in the order of the recipe, as `cotbal steer` names its files."""
    names = goal.split("+")
    tasks = [task.name for task in recipe.mixture.tasks if task.name in names]
    return "+".join(tasks) or goal


def settings_of(given: argparse.Namespace) -> Settings:
    """The settings of a command line.

    Raises:
        SystemExit: a final model would be trained with the seed of a trial.
    """
    seeds = tuple(int(seed) for seed in given.seeds.split(","))
    recipe = load_recipe(given.recipe)
    first = recipe.file.optimization.seed
    if {first, first + 1} & set(seeds):
        raise SystemExit(f"--seeds: {first} and {first + 1} are those of the trials; use others")
    return Settings(
        recipe=given.recipe,
        out=given.out,
        goals=tuple(in_order(goal, recipe) for goal in given.goals.split(",")),
        seeds=seeds,
        floor=given.floor,
        others=tuple(given.others.split(",")) if given.others else (),
        lever=given.lever,
        ratios=given.ratios,
        random=given.random,
        resources=Resources(workers=given.workers, threads=given.threads),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("plan", "run"):
        part = verbs.add_parser(verb)
        part.add_argument("recipe", type=Path)
        part.add_argument("--out", type=Path, required=True, help="directory of the study")
        part.add_argument("--goals", default="mean,relation,ocr,region_caption,vqa+grounding")
        part.add_argument("--seeds", default="10,11,12,13,14", help="of the final models")
        part.add_argument("--floor", default="-1%")
        part.add_argument("--others", help="further methods: cotbal,cotbal-simple,tla,...")
        part.add_argument("--lever", choices=LEVERS, default=WEIGHTS.name)
        part.add_argument("--ratios", choices=tuple(RATIOS), help="repeat these trials with ratios")
        part.add_argument("--random", type=int, default=0, help="number of random weights")
        part.add_argument("--workers", type=int, default=1)
        part.add_argument("--threads", type=int, default=1)
    verbs.add_parser("measure").add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    if given.verb == "measure":
        for part in report(read_study(given.folder)):
            print(part)
    elif given.verb == "run":
        run(settings_of(given))
    else:
        settings = settings_of(given)
        finals = comparisons(settings, methods_of(settings, settings.goals))
        for command in (*measurements(settings), *finals):
            print(f"cotbal {shlex.join(command)}")


if __name__ == "__main__":
    main()
