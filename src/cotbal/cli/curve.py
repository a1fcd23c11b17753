"""`cotbal curve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import JobOptions, RecipeArguments, StudyOptions, Without, run_directory
from cotbal.cli.plan import show_plan

if TYPE_CHECKING:
    from cotbal.report.curves import DataCurves


def curve(
    source: RecipeArguments,
    fractions: Annotated[
        str, typer.Option(help="Shares of every task's training records, separated by commas.")
    ] = "1/32,1/16,1/8,1/4,1/2,1",
    alone: Annotated[
        bool, typer.Option("--alone", help="Also every task alone at every fraction.")
    ] = False,
    *,
    study: StudyOptions,
    job: Annotated[JobOptions, Without("keep_checkpoints")],
) -> None:
    """Measure the paper's Fig. 1b: validation score of every task against the fraction of its
    training data, with equal weights.
    """
    from cotbal.jobs.curve import fractions_of, plan_curve, run_curve
    from cotbal.report import write_curve, write_report

    recipe = source.load()
    chosen, options = fractions_of(fractions), job.to_options()
    root = run_directory(study.out, recipe)
    prepared = plan_curve(recipe, root, chosen, alone, study.seed_numbers)
    show_plan(prepared.plan, prepared.warnings)
    if study.dry_run:
        return
    run_curve(prepared, options)
    show_curve(write_curve(root.root))
    print(f"\nReport: {write_report(root.root)}")


def show_curve(curves: DataCurves) -> None:
    """Scores by fraction of the data with their intervals, and the share of its final score that
    each task reaches with the smallest fraction.
    """
    from cotbal.report import curve_views

    for content in curve_views.tables(curves):
        console.show_content(content)
    for sentence in curve_views.sentences(curves):
        console.out.print(escape(sentence), soft_wrap=True)
    console.show_noise(curves.matrices, curve_views.intervals(curves), curve_views.LEARN)
    if curves.left_out:
        console.out.print(
            f"not shown, because not every seed has them: {', '.join(map(escape, curves.left_out))}"
        )
