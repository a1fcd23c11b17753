"""`cotbal run`."""

from __future__ import annotations

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
    from cotbal.jobs import pipeline
    from cotbal.jobs.next_step import expected
    from cotbal.report import write_report

    options = job.to_options()
    prepared = source.plan(out, weighting)
    show_plan(prepared.plan, prepared.warnings)
    show_expected(expected(prepared), prepared.recipe.trainings)
    result = pipeline.run(prepared, weighting, options)
    page = write_report(prepared.root.root)
    print_balance(result, prepared.root, as_json=False)
    for name in weighting:
        show_final(prepared.recipe.mixture, prepared.root.final(name))
    print(f"\nReport: {page}")
