"""`cotbal design`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import StudyOptions
from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.jobs.design_files import DesignFiles
    from cotbal.response import Design
    from cotbal.response.lever import Lever


def design(
    tasks: Annotated[
        list[str],
        typer.Argument(help="The tasks that get a weight: 2 to 40 names.", metavar="TASK"),
    ],
    guard: Annotated[
        list[str] | None,
        typer.Option(
            help="A task that is only scored, to guard what the model can do; repeatable."
        ),
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(
            help="Number of trials, even; by default as many as separate all effects: 8 for 2 or 3"
            " tasks, 16 for 4 to 7, 24 for 8 to 11."
        ),
    ] = None,
    step: Annotated[
        float, typer.Option(help="Doublings by which weights are raised and lowered.")
    ] = 0.75,
    seeds: Annotated[
        str,
        typer.Option(
            help="Training seeds, separated by commas, used by the pairs of trials in turn."
        ),
    ] = "0,1",
    lever: Annotated[
        str,
        typer.Option(help="What the numbers are: weights (on the loss) or ratios (of sampling)."),
    ] = "weights",
    noise: Annotated[
        float,
        typer.Option(
            help="How much the score of one training scatters between seeds, in % of the score: for"
            " the smallest effect that the trials can show."
        ),
    ] = 2.0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write `trials.csv`, to be filled in, and a file of weights per trial into this"
            " new directory."
        ),
    ] = None,
) -> None:
    """Plan trials for a trainer of your own: which weights to train with. Enter the scores of the
    trained models into the table, then run `cotbal steer --trials`. Trains nothing, and needs no
    recipe.
    """
    from cotbal.jobs.design_files import write_design
    from cotbal.response import two_level_design
    from cotbal.response.lever import LEVERS

    if lever not in LEVERS:
        raise CotbalError(f"--lever: expected weights or ratios; found {lever!r}", "invalid-option")
    if not 0 < noise < float("inf"):
        raise CotbalError(f"--noise: expected a positive number; found {noise}", "invalid-option")
    only_scored = guard or []
    _need_different([*tasks, *only_scored])
    made = two_level_design(tasks, runs, step, StudyOptions(seeds).seed_numbers)
    files = None if out is None else write_design(out, made, LEVERS[lever], only_scored)
    if files is None:
        _show_trials(made)
    _show_facts(made, LEVERS[lever], noise)
    if files is not None:
        _show_files(files, LEVERS[lever])


def _show_files(files: DesignFiles, lever: Lever) -> None:
    """Where the files are, and what to do with them."""
    named = (files.table, files.weights[0], files.weights[-1])
    table, first, last = (escape(str(path)) for path in named)
    for sentence in (
        f"\nTable: {table}",
        f"{lever.several.capitalize()} of every trial: {first} to {last}",
        "\nNext: train one model with each file, all else alike, and enter its validation scores"
        f" into the table. Then: cotbal steer --trials {table}",
    ):
        console.out.print(sentence, soft_wrap=True)


def _need_different(names: list[str]) -> None:
    """Names of columns: not empty, and different."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise CotbalError(
            f"expected different tasks; repeated: {', '.join(repeated)}", "repeated-name"
        )
    if not all(name.strip() for name in names):
        raise CotbalError("expected names of tasks; found an empty one", "invalid-name")


def _show_trials(made: Design) -> None:
    """One line per trial."""
    table = console.table("trial", "seed", *map(escape, made.tasks))
    rows = zip(made.seeds, made.rounded_weights.tolist(), strict=True)
    for number, (seed, weights) in enumerate(rows, 1):
        table.add_row(str(number), str(seed), *(f"{weight:.4f}" for weight in weights))
    console.show(table)


def _show_facts(made: Design, lever: Lever, noise: float) -> None:
    """Number of trials, what they can show, and what they cannot separate."""
    import numpy as np

    sentences = [f"\n{made.described(lever)}."]
    smallest = made.detectable(noise)
    known = smallest[~np.isnan(smallest)]
    if made.freedom < 1:
        sentences.append("These are too few trials for intervals: plan more, or fewer seeds.")
    elif known.size:
        sentences.append(
            f"If a score scatters by {noise:g} % between trainings, they detect effects of doubling"
            f" a {lever.one} from {known.max():.1f} % on, with probability 0.8."
        )
    for sentence in (*sentences, made.aliasing):
        console.out.print(escape(sentence), soft_wrap=True)
