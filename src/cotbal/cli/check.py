"""`cotbal check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson, RecipeArguments

if TYPE_CHECKING:
    from cotbal.data.checks.check import CheckReport

COLUMNS = (
    "records",
    "turns",
    "images",
    "missing",
    "broken",
    "rejected",
    "dropped",
    "valid tokens",
    "trained tokens",
    "mini",
)


def check(
    source: RecipeArguments,
    decode: Annotated[
        bool, typer.Option(help="Decode every image, to find truncated ones.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Check the data of a mixture: records, images, splits, sizes, valid tokens.

    Lists every error, not only the first, and exits with 2 if there is one.
    """
    from cotbal.data.batches.lengths import open_meter
    from cotbal.data.checks.check import check_mixture
    from cotbal.data.files import default_cache
    from cotbal.jobs import display

    checked = source.load()
    with display.steps() as step:
        with open_meter(checked) as meter:
            report = check_mixture(checked, default_cache(), decode, meter, step)
        if checked.probes_have_a_model:
            with open_meter(checked.for_probes) as meter:
                probes = check_mixture(checked.for_probes, default_cache(), False, meter, step)
            report = report.and_of_probes(probes)
    if as_json:
        console.print_json(report.to_json())
    else:
        show_check(report)
    if report.problems:
        raise typer.Exit(2)


def show_check(report: CheckReport) -> None:
    """Sizes of every split, then warnings and errors; of many of one kind the first few."""
    from cotbal.data.checks.check import condensed
    from cotbal.report.formatting import plural

    table = console.table("task", "split", *COLUMNS)
    for split in report.tasks:
        cells = (getattr(split, column.replace(" ", "_")) for column in COLUMNS)
        shown = ("-" if cell is None else str(cell) for cell in cells)
        table.add_row(escape(split.task), split.split, *shown)
    console.show(table)
    console.warn(condensed(report.warnings))
    for problem in condensed([str(problem) for problem in report.problems]):
        console.out.print(f"[red]error[/]  {escape(problem)}", soft_wrap=True)
    errors = plural(len(report.problems), "error") if report.problems else "no errors"
    console.out.print(f"\n{errors}, {plural(len(report.warnings), 'warning')}")
