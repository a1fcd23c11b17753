"""`cotbal balance`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson, JobOptions, Out, RecipeArguments

if TYPE_CHECKING:
    from cotbal.balance import Balance
    from cotbal.jobs.rundir import RunDir


def balance(
    source: RecipeArguments,
    out: Out = None,
    *,
    job: JobOptions,
    as_json: AsJson = False,
) -> None:
    """Train and score the probes, then compute the weights: weights.json. Rerun it to resume."""
    from cotbal.jobs import pipeline

    prepared = source.plan(out, ("cotbal",))
    print_balance(pipeline.balance(prepared, job.to_options()), prepared.root, as_json)


def print_balance(result: Balance, root: RunDir | None, as_json: bool) -> None:
    """Print weights, and where they were written, for a person or a script."""
    if as_json:
        console.print_json(result.to_json())
        return
    show_balance(result)
    if root is not None:
        print(f"\nWeights: {root.weights}")


def show_balance(result: Balance) -> None:
    """Weights with intervals, what they are made of, and what was flagged."""
    table = console.table("unit", "weight", "95 % interval", "outward", "inward", "difficulty", "")
    for i, unit in enumerate(result.units):
        weight = result.weight(unit)
        shown = f"{weight.low:.3f} to {weight.high:.3f}" if weight.has_bounds else "-"
        unclear = weight.has_bounds and not weight.excludes(1)
        verdict = result.verdict(unit) if unclear else ""
        numbers = (result.outward[i], result.inward[i], result.difficulty[i])
        cells = ("n/a" if math.isnan(number) else f"{number:.3f}" for number in numbers)
        table.add_row(escape(unit), f"{weight.value:.4f}", shown, *cells, verdict)
    console.show(table)
    console.out.print(
        f"{result.form} form, {result.difficulty_form} difficulty, temperature"
        f" {result.temperature:g}"
    )
    for need in result.needs:
        if not result.weight(need.unit).excludes(1):
            console.out.print(f"  {escape(need.sentence())}", soft_wrap=True)
    for flag in result.flags:
        console.out.print(f"[yellow]{flag.kind}[/]  {escape(flag.message)}", soft_wrap=True)
    console.warn(result.warnings)
