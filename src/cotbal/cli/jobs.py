"""The verbs that train: `balance`, `train`, `run`, `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cotbal.cli.data import open_recipe
from cotbal.cli.options import (
    Address,
    AsJson,
    Keep,
    On,
    Out,
    Overrides,
    RecipePath,
    ReportTo,
    Restart,
    Threads,
    Workers,
)
from cotbal.cli.tables import show_balance
from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.jobs.execute import Options


def balance(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: Out = None,
    on: On = "processes",
    workers: Workers = None,
    threads: Threads = None,
    report_to: ReportTo = None,
    address: Address = None,
    keep_checkpoints: Keep = False,
    restart_changed: Restart = False,
    as_json: AsJson = False,
) -> None:
    """Train and score the probes, then compute the weights: weights.json. Rerun it to resume."""
    from cotbal.jobs import pipeline

    prepared = open_recipe(recipe, overrides, out, ("cotbal",))
    result = pipeline.balance(
        prepared,
        options_of(on, workers, threads, keep_checkpoints, restart_changed, report_to, address),
    )
    show_balance(result, prepared.root, as_json)


def train(
    recipe: RecipePath,
    overrides: Overrides = None,
    weighting: Annotated[
        str,
        typer.Option(help="cotbal (the weights of `balance`), ew, tla, rlw, dwa, igbv1."),
    ] = "cotbal",
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights to train with instead of those of the run directory."),
    ] = None,
    out: Out = None,
    on: On = "processes",
    workers: Workers = None,
    threads: Threads = None,
    report_to: ReportTo = None,
    address: Address = None,
    restart_changed: Restart = False,
) -> None:
    """The final training with one weighting, scored on the test splits."""
    from cotbal.cli import console
    from cotbal.jobs import pipeline
    from cotbal.scores.weights_file import read_weights

    prepared = open_recipe(recipe, overrides, out, (weighting,))
    options = options_of(on, workers or 1, threads, True, restart_changed, report_to, address)
    paths = pipeline.train(prepared, weighting, options, read_weights(weights) if weights else None)
    console.show_final(prepared.recipe.mixture, paths)


def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    weighting: Annotated[
        list[str], typer.Option(help="Final trainings; give it twice to compare two.")
    ] = ["cotbal"],  # noqa: B006
    out: Out = None,
    on: On = "processes",
    workers: Workers = None,
    threads: Threads = None,
    report_to: ReportTo = None,
    address: Address = None,
    keep_checkpoints: Keep = False,
    restart_changed: Restart = False,
) -> None:
    """The whole job: probes, weights, final training, report. Rerun it to resume."""
    options = options_of(
        on, workers, threads, keep_checkpoints, restart_changed, report_to, address
    )
    _run(recipe, overrides, tuple(weighting), out, options)


def demo(
    size: Annotated[
        str, typer.Option(help="demo (minutes) or tiny (seconds, for tests).")
    ] = "demo",
    out: Annotated[Path, typer.Option("--out", help="Run directory.")] = Path("runs/pocket"),
    on: On = "processes",
    workers: Workers = None,
) -> None:
    """The whole job on the embedded benchmark `pocket`, equal weights and CoTBal side by side."""
    from cotbal.benchmarks import pocket

    print("Drawing the images of the benchmark `pocket` ...", flush=True)
    recipe = pocket.prepare(out / "data", size=size)
    _run(recipe, None, ("ew", "cotbal"), out, options_of(on, workers, None, False, False))


def options_of(
    on: str,
    workers: int | None,
    threads: int | None,
    keep: bool,
    restart: bool,
    report_to: list[str] | None = None,
    address: str | None = None,
) -> Options:
    """How a job runs, from what the command line says.

    Raises:
        CotbalError: an address, for an executor that takes none.
    """
    from cotbal.jobs.display import LiveDisplay
    from cotbal.jobs.execute import Options
    from cotbal.jobs.executors import Resources

    if address and on in ("processes", "inline", "slurm"):
        raise CotbalError(f"--address: only --on ray takes one; found --on {on}")
    trackers = tuple(dict.fromkeys(report_to or ()))
    return Options(
        on, Resources(workers, threads, address=address), keep, restart, LiveDisplay, trackers
    )


def _run(
    recipe: Path,
    overrides: list[str] | None,
    weightings: tuple[str, ...],
    out: Path | None,
    options: Options,
) -> None:
    from cotbal.cli import console
    from cotbal.jobs import pipeline
    from cotbal.jobs.next_step import expected
    from cotbal.report import write_report

    prepared = open_recipe(recipe, overrides, out, weightings)
    console.show_plan(prepared.plan, prepared.warnings)
    console.show_expected(expected(prepared), prepared.recipe.trainings)
    result = pipeline.run(prepared, weightings, options)
    page = write_report(prepared.root.root)
    show_balance(result, prepared.root, False)
    for weighting in weightings:
        console.show_final(prepared.recipe.mixture, prepared.root.final(weighting))
    print(f"\nReport: {page}")
