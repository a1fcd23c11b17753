"""Before anything is spent: `init`, `check`, `plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cotbal.cli.options import AsJson, On, Out, Overrides, RecipePath
from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotbal.jobs.plan import Prepared


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
) -> None:
    """Write a commented starter recipe."""
    from cotbal.recipe.starter import STARTER

    if path.exists():
        raise CotbalError(f"{path} exists already and was left as it is; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STARTER, encoding="utf-8")
    print(f"Wrote {path}. Fill in your tasks, then: cotbal check {path}")


def check(
    recipe: RecipePath,
    overrides: Overrides = None,
    decode: Annotated[
        bool, typer.Option(help="Decode every image, to find truncated ones.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Look through a mixture: records, images, splits, sizes, valid tokens.

    Lists every problem, not only the first, and exits with 2 if there is one.
    """
    from cotbal.cli import console
    from cotbal.data.batches.lengths import open_meter
    from cotbal.data.checks.check import check_mixture
    from cotbal.data.reading.records import default_cache
    from cotbal.jobs import display
    from cotbal.recipe.recipe import load_recipe

    checked = load_recipe(recipe, overrides or ())
    with display.steps() as step:
        with open_meter(checked) as meter:
            found = check_mixture(checked, default_cache(), decode, meter, step)
        if checked.probes_have_a_model:
            with open_meter(checked.for_probes) as meter:
                probes = check_mixture(checked.for_probes, default_cache(), False, meter, step)
            found = found.and_of_probes(probes)
    (
        print(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
        if as_json
        else console.show_check(found)
    )
    if found.problems:
        raise typer.Exit(2)


def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: Out = None,
    weighting: Annotated[list[str], typer.Option(help="Final trainings to plan.")] = ["cotbal"],  # noqa: B006
    suggest_mini: Annotated[
        bool,
        typer.Option(
            "--suggest-mini", help="Read the size of a mini off the losses of a training so far."
        ),
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", min=1, help="Also predict how long the runs take on so many GPUs."),
    ] = None,
    on: On = "processes",
    as_json: AsJson = False,
) -> None:
    """Show every run with its records, tokens and share of the final run's cost, before anything is
    spent.
    """
    from cotbal import plugins
    from cotbal.cli import console
    from cotbal.jobs.forecast import forecast
    from cotbal.jobs.mini import suggest_mini as suggest

    plugins.load("cotbal.jobs.executors", on)
    prepared = open_recipe(recipe, overrides, out, weighting)
    predicted = forecast(prepared, gpus) if gpus else None
    advice = suggest(prepared) if suggest_mini else None
    if as_json:
        content = {**prepared.plan.to_json(), "warnings": list(prepared.warnings)}
        if advice is not None:
            rate = None if advice.rate is None else str(advice.rate)
            content["mini"] = {"elbows": advice.elbows, "rate": rate, "records": advice.records}
        if predicted is not None:
            content["forecast"] = {"on": on, **vars(predicted)}
        print(json.dumps(content, indent=1, ensure_ascii=False))
        return
    console.show_plan(prepared.plan, prepared.warnings)
    if predicted is not None:
        console.show_forecast(predicted, on)
    if advice is not None:
        console.show_mini(advice)


def open_recipe(
    recipe: Path, overrides: list[str] | None, out: Path | None, weightings: Sequence[str]
) -> Prepared:
    """Read a recipe, open its data and plan its runs."""
    from cotbal.jobs import pipeline
    from cotbal.jobs.rundir import RunDir
    from cotbal.recipe.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    return pipeline.plan(loaded, RunDir(out or Path("runs") / loaded.name), weightings)
