"""`cotbal overall`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson

if TYPE_CHECKING:
    from cotbal.balance.improvement import Overall


def overall(
    results: Annotated[
        Path,
        typer.Option(
            help=(
                "CSV with header `method,<task>:<metric>,...`; metrics ending in - are better when"
                " lower."
            )
        ),
    ],
    baseline: Annotated[
        str, typer.Option(help="The method that others are measured against.")
    ] = "STL",
    as_json: AsJson = False,
) -> None:
    """Compute improvement and error over a baseline (Eq. 12-14) from a table of results, such as a
    published one.
    """
    from cotbal.balance import improvement
    from cotbal.scores.results import read_results

    methods = improvement.overall(read_results(results), baseline)
    if as_json:
        console.print_json({"methods": {name: vars(method) for name, method in methods.items()}})
    else:
        show_overall(methods, baseline)


def show_overall(methods: Mapping[str, Overall], baseline: str) -> None:
    """Eq. 12-14, one line per method."""
    tasks = list(next(iter(methods.values())).tasks)
    title = f"Relative change against {baseline}, in %"
    table = console.table("method", "improvement", "error", *tasks, title=title)
    for name, method in methods.items():
        numbers = (method.improvement, method.error, *method.tasks.values())
        table.add_row(escape(name), *(f"{number:.2f}" for number in numbers))
    console.show(table)
    console.out.print("No intervals: a table of results holds neither samples nor training seeds.")
