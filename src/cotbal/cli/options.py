"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipePath = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Changes to the recipe, such as optimization.epochs=2.", show_default=False
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Run directory; `runs/<recipe name>` by default.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of text.")]
On = Annotated[
    str, typer.Option("--on", help="Where the runs execute: processes, slurm, ray, inline.")
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Runs at the same time; one per device by default."),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU threads per run; the cores are shared by default."),
]
ReportTo = Annotated[
    list[str] | None,
    typer.Option(
        "--report-to",
        help=(
            "Send losses and weights to tensorboard, wandb or trackio while runs train; give it"
            " twice for two."
        ),
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", help="Head of a Ray cluster, host:port; RAY_ADDRESS, or one of its own."
    ),
]
Keep = Annotated[
    bool, typer.Option("--keep-checkpoints", help="Keep the trained models of the probes.")
]
Restart = Annotated[
    bool,
    typer.Option(
        "--restart-changed",
        help="Archive runs that no longer fit the recipe, and rerun them.",
    ),
]
