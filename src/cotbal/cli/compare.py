"""`cotbal compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.balance import print_balance
from cotbal.cli.options import JobOptions, RecipeArguments, StudyOptions, listed, run_directory
from cotbal.cli.plan import show_expected, show_plan, show_resolution

if TYPE_CHECKING:
    from cotbal.jobs.compare import Study
    from cotbal.jobs.execute import Options
    from cotbal.jobs.rundir import RunDir
    from cotbal.report.comparison import Comparison


def compare(
    source: RecipeArguments,
    methods: Annotated[
        str,
        typer.Option(
            help=(
                "Methods separated by commas: stl, ew, tla, rlw, dwa, igbv1, cotbal,"
                " `steer:<goal>` such as steer:ocr+chart (steer is steer:mean),"
                " `sampling:<exponent>` such as sampling:0.5, `torchjd:<name>`, or dotted paths of"
                " your own modules."
            )
        ),
    ] = "stl,ew,tla,rlw,dwa,igbv1,cotbal",
    *,
    study: StudyOptions,
    job: JobOptions,
) -> None:
    """Train and test several methods on the same seeds, and report their differences with
    intervals.
    """
    from cotbal.jobs.compare import method_names, plan_comparison

    recipe = source.load()
    chosen = method_names(listed(methods))
    root = run_directory(study.out, recipe)
    planned = plan_comparison(recipe, root, chosen, study.seed_numbers)
    run_study(planned, job.to_options(), study.dry_run)


def run_study(study: Study, options: Options, dry_run: bool) -> None:
    """Show the plan of a study; unless it is a dry run, execute it and show its comparison."""
    from cotbal.jobs.compare import run_comparison
    from cotbal.jobs.next_step import expected
    from cotbal.jobs.resolution import resolution
    from cotbal.jobs.runs import FIXED
    from cotbal.report import write_comparison, write_report

    prepared = study.prepared
    show_plan(prepared.plan, prepared.warnings)
    if any(planned.run.weighting == FIXED for planned in prepared.plan.runs):
        show_expected(expected(prepared), prepared.recipe.trainings)
    if any(planned.kind == "trial" for planned in prepared.plan.runs):
        show_resolution(resolution(prepared))
    if dry_run:
        return
    result = run_comparison(study, options)
    if result is not None:
        print_balance(result, prepared.root, as_json=False)
        print()
    show_comparison(write_comparison(prepared.root.root))
    show_predictions(prepared.root)
    print(f"\nReport: {write_report(prepared.root.root)}")


def show_comparison(comparison: Comparison) -> None:
    """Improvement and error of every method with their intervals, and the difference from EW."""
    from cotbal.report.formatting import with_interval
    from cotbal.report.summary import seed_notes
    from cotbal.weightings import method_label

    if comparison.reference is None or not comparison.against:
        console.out.print(
            "No method to hold the others against: compare with stl or ew among the methods."
        )
        return
    reference = method_label(comparison.reference)
    table = console.table(
        "method", "improvement", "error", "improvement - EW", "", title=f"Against {reference}, in %"
    )
    for name, overall in comparison.against.items():
        minus = comparison.paired.get(name)
        verdict = minus.verdict(name="EW") if minus and minus.holds_training else ""
        shown = (
            (overall.average, overall.error)
            if minus is None
            else (overall.average, overall.error, minus)
        )
        cells = [with_interval(change, 2, signed=True) for change in shown]
        if minus is None:
            cells.append("")
        table.add_row(escape(method_label(name)), *cells, verdict)
    console.show(table)
    console.show_noise(
        comparison.seeds, [overall.average for overall in comparison.against.values()]
    )
    for note in seed_notes(comparison):
        console.out.print(escape(note), soft_wrap=True)


def show_predictions(root: RunDir) -> None:
    """What `cotbal steer` predicted, and what came out, task by task."""
    from cotbal.report import prediction_tables

    for content in prediction_tables(root.root):
        print()
        console.show_content(content)
        console.out.print(escape(content.note), soft_wrap=True)
