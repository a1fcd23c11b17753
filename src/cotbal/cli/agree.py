"""`cotbal agree`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson

if TYPE_CHECKING:
    from cotbal.balance.agreement import Agreement


def agree(
    first: Annotated[
        Path, typer.Argument(help="Run directory, such as one with the probes of the paper.")
    ],
    second: Annotated[
        Path,
        typer.Argument(
            help="Run directory with other probes: smaller portions, LoRA, another seed."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Compare the weights of two run directories: rank correlation and differences, with
    intervals.
    """
    from cotbal.jobs import weigh
    from cotbal.jobs.rundir import RunDir

    agreement = weigh.agree(RunDir(first), RunDir(second))
    if as_json:
        console.print_json(agreement.to_json())
    else:
        show_agreement(agreement)


def show_agreement(agreement: Agreement) -> None:
    """Rank correlation, and the difference of every unit's weights."""
    from cotbal.report.formatting import with_interval
    from cotbal.scores.interval import SAMPLING_ONLY, hold_training, interval_name

    table = console.table("unit", "second - first", interval_name(agreement.differences), "")
    for unit, gap in zip(agreement.units, agreement.differences, strict=True):
        verdict = gap.verdict() if gap.differs() else ""
        interval = f"{gap.low:+z.3f} to {gap.high:+z.3f}"
        table.add_row(escape(unit), f"{gap.value:+z.3f}", interval, verdict)
    console.show(table)
    console.out.print(
        f"rank correlation {with_interval(agreement.correlation, 2)}, largest difference"
        f" {with_interval(agreement.largest, 2)}, {len(agreement.units)} units"
    )
    if not hold_training(agreement.differences):
        console.out.print(
            f"Intervals: {SAMPLING_ONLY}. To measure that, both directories need replicates or"
            " seeds of their probes (`balance.replicates`, `balance.seeds`).",
            soft_wrap=True,
        )
