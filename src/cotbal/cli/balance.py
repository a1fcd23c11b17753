"""`cotbal balance`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson, JobOptions, Out, RecipeArguments

if TYPE_CHECKING:
    from cotbal.balance import Balance
    from cotbal.jobs.rundir import RunDir
    from cotbal.scores.interval import Interval


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
    from cotbal.scores.interval import interval_name

    weights = result.part("all")
    table = console.table(
        "unit", "weight", interval_name(weights), "outward", "inward", "difficulty", ""
    )
    measures = zip(result.outward, result.inward, result.difficulty, strict=True)
    for unit, weight, numbers in zip(result.units, weights, measures, strict=True):
        cells = ("n/a" if math.isnan(number) else f"{number:.3f}" for number in numbers)
        table.add_row(escape(unit), f"{weight.value:.4f}", *_range_and_verdict(weight, cells))
    console.show(table)
    console.out.print(
        f"{result.form} form, {result.difficulty_form} difficulty, temperature"
        f" {result.temperature:g}"
    )
    _show_evidence(result, weights)
    _show_flags(result)
    console.warn(result.warnings)


def _range_and_verdict(weight: Interval, between: Iterable[str]) -> tuple[str, ...]:
    """Cells of a weight; a verdict only where it does not differ from 1."""
    shown = f"{weight.low:.3f} to {weight.high:.3f}" if weight.has_bounds else "-"
    verdict = weight.verdict(1) if weight.holds_training and not weight.differs(1) else ""
    return (shown, *between, verdict)


def _show_evidence(result: Balance, weights: Sequence[Interval]) -> None:
    """What the weights rest on, and what more evidence would decide."""
    from cotbal.balance.result import NOT_MEASURABLE
    from cotbal.report.tables import LEARN_FROM_PROBES
    from cotbal.scores.interval import SAMPLING_ONLY, hold_training

    if not result.measurable:
        console.out.print(f"Weights {NOT_MEASURABLE}. All weights are 1.", style="bold")
    elif result.has_intervals and not hold_training(weights):
        console.out.print(f"Intervals: {SAMPLING_ONLY}. {LEARN_FROM_PROBES}", soft_wrap=True)
    for need in result.needs:
        if not result.weight(need.unit).differs(1):
            console.out.print(f"  {escape(need.sentence())}", soft_wrap=True)


def _show_flags(result: Balance) -> None:
    """A short table; the report and `--json` have the runs and their scores."""
    from cotbal.report.flags import flag_table

    if not result.flags:
        return
    console.out.print()
    console.show_content(flag_table(result))
    console.out.print("Runs and scores behind each flag: in the report, and with --json.")
