"""`cotbal train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import (
    JobOptions,
    Out,
    Ratios,
    RecipeArguments,
    Without,
    run_directory,
)
from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.jobs.rundir import RunDir
    from cotbal.recipe.mixture import Mixture
    from cotbal.training.run_paths import RunPaths


def train(
    source: RecipeArguments,
    weighting: Annotated[
        str | None,
        typer.Option(
            help="cotbal (the weights of `balance`, default), ew, tla, rlw, dwa, igbv1,"
            " `steer:<goal>` (the weights of `steer` for this goal), or `sampling:<exponent>`.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights to train with instead of those of the run directory. Those that `steer`"
            " wrote into it are trained as `steer:<goal>`."
        ),
    ] = None,
    ratios: Ratios = None,
    out: Out = None,
    *,
    job: Annotated[JobOptions, Without("keep_checkpoints")],
) -> None:
    """Train the final model with one method, and score it on the test splits."""
    from cotbal.jobs import pipeline
    from cotbal.jobs.runs import FIXED
    from cotbal.scores.weights_file import read_weights

    if ratios and (weights or weighting not in (None, "ew")):
        raise CotbalError(
            "--ratios: trains with equal weights on the loss; leave out --weighting and --weights",
            "conflicting-options",
        )
    recipe = source.load()
    root = run_directory(out, recipe)
    if weights and (steered := _steered(root, weights, weighting)):
        weighting, weights = steered, None
    name = weighting or FIXED
    prepared = pipeline.plan(recipe, root, () if ratios else (name,), ratios)
    if ratios:
        name = pipeline.ratios_run_name(ratios)
    options = replace(job, workers=job.workers or 1).to_options()  # one run gets all cores
    paths = pipeline.train(prepared, name, options, read_weights(weights) if weights else None)
    show_final(prepared.recipe.mixture, paths)


def _steered(root: RunDir, weights: Path, weighting: str | None) -> str | None:
    """The method of a file of weights that `cotbal steer` wrote into the run directory; None for
    any other file, or where the user names a method that trains with any weights.

    Raises:
        CotbalError: other weights are given to a method that takes those of `cotbal steer`.
    """
    from cotbal.jobs.steering import is_steered, method_of_file

    method = method_of_file(root, weights)
    if weighting is None or weighting == method:
        return method
    if is_steered(weighting):
        raise CotbalError(
            f"--weights: {weighting} trains with what `cotbal steer` wrote into {root.root}; leave"
            " out --weighting to train with other weights",
            "conflicting-options",
        )
    return None


def show_final(mixture: Mixture, paths: RunPaths) -> None:
    """Test scores of a final model."""
    from cotbal.data.files import read_json
    from cotbal.weightings import method_label

    table = console.table(
        "task", "split", "metric", "score", title=f"{method_label(paths.root.name)} on test"
    )
    for task in mixture.tasks:
        for split in task.test:
            content: Mapping[str, Mapping[str, Mapping[str, float]]] = read_json(
                paths.scores(task.name, split)
            )
            for metric, entry in content["metrics"].items():
                table.add_row(escape(task.name), split, metric, f"{entry['score']:.4f}")
    console.show(table)
