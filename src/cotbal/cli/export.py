"""`cotbal export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cotbal.cli.options import RecipeArguments, run_directory


def export(
    source: RecipeArguments,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="ms-swift, llamafactory, axolotl, trl, ratios or olmix.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="A new directory.", show_default=False)],
    weights: Annotated[
        Path | None, typer.Option(help="Weights to export instead of those of the run directory.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Run directory; `runs/<recipe name>` by default.")
    ] = None,
) -> None:
    """Write rows, configuration and command for another trainer, with the weights in a form that it
    supports. Needs no torch.

    HOW_TO_RUN.md in the new directory explains how that trainer applies them, how exactly, and what
    is not exported (docs/exports.md).
    """
    from cotbal.export import HOW_TO_RUN, Order
    from cotbal.export import export as export_to

    recipe = source.load()
    guide = export_to(Order(recipe, run_directory(run, recipe), weights), to, out)
    print(guide.text)
    print(f"Written to {out}, this text as {HOW_TO_RUN}")
