"""`cotbal demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cotbal.cli.options import JobOptions, On, RecipeArguments, Workers
from cotbal.cli.run import run_all


def demo(
    size: Annotated[
        str, typer.Option(help="demo (minutes) or tiny (seconds, for tests).")
    ] = "demo",
    out: Annotated[Path, typer.Option("--out", help="Run directory.")] = Path("runs/pocket"),
    on: On = "processes",
    workers: Workers = None,
) -> None:
    """Run the whole job on the embedded benchmark `pocket`, with equal weights and CoTBal."""
    from cotbal.benchmarks import pocket

    print("Drawing the images of the benchmark `pocket` ...", flush=True)
    recipe = pocket.prepare(out / "data", size=size)
    run_all(RecipeArguments(recipe), ("ew", "cotbal"), out, JobOptions(on, workers))
