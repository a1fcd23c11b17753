"""`cotbal ablate`."""

from __future__ import annotations

from typing import Annotated

import typer

from cotbal.cli.compare import run_study
from cotbal.cli.options import (
    JobOptions,
    RecipeArguments,
    StudyOptions,
    different_numbers,
    run_directory,
)


def ablate(
    source: RecipeArguments,
    temperatures: Annotated[
        str, typer.Option(help="Temperatures, separated by commas.")
    ] = "0.25,0.5,1",
    precise: Annotated[
        bool,
        typer.Option(
            help="Also the other kind of difficulty (Eq. 17); needs models of one task alone."
        ),
    ] = True,
    *,
    study: StudyOptions,
    job: JobOptions,
) -> None:
    """Train the ablation of the paper's Table 5: parts of the weights alone, temperatures, real and
    precise difficulty.
    """
    from cotbal.jobs.compare import plan_ablation

    recipe = source.load()
    taus = different_numbers(temperatures, "--temperatures")
    root = run_directory(study.out, recipe)
    planned = plan_ablation(recipe, root, taus, precise, study.seed_numbers)
    run_study(planned, job.to_options(), study.dry_run)
