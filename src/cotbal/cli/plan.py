"""`cotbal plan`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson, On, Out, RecipeArguments

if TYPE_CHECKING:
    from cotbal.jobs.forecast import Forecast
    from cotbal.jobs.mini import MiniAdvice
    from cotbal.jobs.plan import Plan


def plan(
    source: RecipeArguments,
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
    from cotbal.jobs.forecast import forecast
    from cotbal.jobs.mini import suggest_mini as suggest

    plugins.load("cotbal.jobs.executors", on)
    prepared = source.plan(out, weighting)
    predicted = forecast(prepared, gpus) if gpus else None
    advice = suggest(prepared) if suggest_mini else None
    if as_json:
        content = {**prepared.plan.to_json(), "warnings": list(prepared.warnings)}
        if advice is not None:
            rate = None if advice.rate is None else str(advice.rate)
            content["mini"] = {"elbows": advice.elbows, "rate": rate, "records": advice.records}
        if predicted is not None:
            content["forecast"] = {"on": on, **vars(predicted)}
        console.print_json(content)
        return
    show_plan(prepared.plan, prepared.warnings)
    if predicted is not None:
        show_forecast(predicted, on)
    if advice is not None:
        show_mini(advice)


def show_plan(plan: Plan, warnings: Sequence[str]) -> None:
    """Every run with its cost."""
    from cotbal.jobs.display import duration
    from cotbal.weightings import method_label

    table = console.table(
        "run", "kind", "records", "valid tokens", "answers", "share of final", "time"
    )
    for p in plan.runs:
        tokens = "-" if p.tokens is None else f"{p.tokens:.0f}"
        time = "-" if p.seconds is None else duration(p.seconds)
        kind = f"final {method_label(p.run.name)}" if p.kind == "final" else p.kind
        table.add_row(
            escape(p.label), kind, str(p.records), tokens, str(p.answers), f"{p.share:.3f}", time
        )
    console.show(table)
    console.out.print(f"\n{plan.sentence()}")
    console.warn(warnings)


def show_forecast(found: Forecast, on: str) -> None:
    """Time from the first start to the last end, and GPU-hours."""
    from cotbal.jobs.display import duration
    from cotbal.report.formatting import plural

    if found.timed:
        times = [duration(seconds) for seconds in (found.makespan, found.bound)]
        work = f"{found.gpu_time / 3600:.1f} GPU-hours"
    else:
        times = [f"{share:.2f} x one final run" for share in (found.makespan, found.bound)]
        work = f"{found.gpu_time:.2f} in GPU-time of final runs (nothing was timed here yet)"
    console.out.print(
        f"{plural(found.runs, 'run')} on {plural(found.gpus, 'GPU')} ({on}): {times[0]}, {work}; no"
        f" order of them ends before {times[1]}. Waiting in a queue is not counted."
    )


def show_mini(advice: MiniAdvice) -> None:
    """The elbow of every loss curve, and the mini that holds all of them."""
    if advice.rate is None:
        console.out.print(
            "\nNo loss bends so far: let the training with equal weights continue, or log more"
            " often."
        )
        return
    table = console.table("task", "loss bends at", "records in the mini", title="\nSuggested mini")
    for task, records in advice.records.items():
        at = f"{advice.elbows[task]:.3f} of its data" if task in advice.elbows else "no elbow"
        table.add_row(escape(task), at, str(records))
    console.show(table)
    console.out.print(
        f"portions.mini={advice.rate} holds every elbow (Appendix C of the paper; it advises 1000"
        " records or more)"
    )
