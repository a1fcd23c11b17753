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
        list[str], typer.Option(help="Method of a final training; repeat the option for several.")
    ] = ["cotbal"],  # noqa: B006
    out: Out = None,
    *,
    job: JobOptions,
) -> None:
    """Run the whole job: probes (for `steer`: trials), weights, final training, report. Rerun it to
    resume.
    """
    run_all(source, weighting, out, job)


def run_all(
    source: RecipeArguments, weightings: Sequence[str], out: Path | None, job: JobOptions
) -> None:
    """Probes or trials, weights, final trainings and the report."""
    from cotbal.cli.compare import show_predictions
    from cotbal.jobs import pipeline
    from cotbal.jobs.next_step import expected
    from cotbal.jobs.steering import method_of
    from cotbal.report import write_report

    options = job.to_options()
    prepared = source.plan(out, weightings)
    show_plan(prepared.plan, prepared.warnings)
    show_expected(expected(prepared), prepared.recipe.trainings)
    result = pipeline.run(prepared, options)
    page = write_report(prepared.root.root)
    if result is not None:
        print_balance(result, prepared.root, as_json=False)
    mixture = prepared.recipe.mixture
    for weighting in weightings:
        show_final(mixture, prepared.root.final(method_of(mixture, weighting)))
    show_predictions(prepared.root)
    print(f"\nReport: {page}")
