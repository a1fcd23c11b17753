"""`cotbal demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cotbal.cli.compare import run_study
from cotbal.cli.options import JobOptions, On, RecipeArguments, Workers, run_directory

SEEDS = (0, 1)  # one seed would say nothing about the difference of two methods


def demo(
    size: Annotated[
        str, typer.Option(help="demo (minutes) or tiny (seconds, for tests).")
    ] = "demo",
    out: Annotated[Path, typer.Option("--out", help="Run directory.")] = Path("runs/pocket"),
    on: On = "processes",
    workers: Workers = None,
) -> None:
    """The whole job on the embedded benchmark `pocket`, equal weights and CoTBal side by side with
    two training seeds.
    """
    from cotbal.benchmarks import pocket
    from cotbal.jobs.compare import plan_comparison

    print("Drawing the images of the benchmark `pocket` ...", flush=True)
    recipe = RecipeArguments(pocket.prepare(out / "data", size=size)).load()
    study = plan_comparison(recipe, run_directory(out, recipe), ("ew", "cotbal"), SEEDS)
    run_study(study, JobOptions(on, workers).to_options(), dry_run=False)
