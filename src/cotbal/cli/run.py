"""`cotbal run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cotbal.cli.balance import print_balance
from cotbal.cli.options import JobOptions, Out, RecipeArguments
from cotbal.cli.plan import show_expected, show_plan
from cotbal.cli.train import show_final


def run(
    source: RecipeArguments,
    weighting: Annotated[
        list[str], typer.Option(help="Final trainings; give it twice to compare two.")
    ] = ["cotbal"],  # noqa: B006
    out: Out = None,
    *,
    job: JobOptions,
) -> None:
    """The whole job: probes, weights, final training, report. Rerun it to resume."""
    run_all(source, weighting, out, job)


def run_all(
    source: RecipeArguments, weightings: Sequence[str], out: Path | None, job: JobOptions
) -> None:
    """Probes, weights, final trainings and the report."""
    from cotbal.jobs import pipeline
    from cotbal.jobs.next_step import expected
    from cotbal.report import write_report

    options = job.to_options()
    prepared = source.plan(out, weightings)
    show_plan(prepared.plan, prepared.warnings)
    show_expected(expected(prepared), prepared.recipe.trainings)
    result = pipeline.run(prepared, weightings, options)
    page = write_report(prepared.root.root)
    print_balance(result, prepared.root, as_json=False)
    for weighting in weightings:
        show_final(prepared.recipe.mixture, prepared.root.final(weighting))
    print(f"\nReport: {page}")
