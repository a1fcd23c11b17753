"""`cotbal tune`."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson, RecipeArguments

if TYPE_CHECKING:
    from cotbal.jobs.tuning.outcome import Row, Tuned


def tune(
    source: RecipeArguments,
    rounds: Annotated[
        int,
        typer.Option(
            min=3, help="How often a candidate is measured, in turns with the recipe as it is."
        ),
    ] = 3,
    steps: Annotated[
        int, typer.Option(min=1, help="Timed optimizer steps per measurement, after one untimed.")
    ] = 3,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, help="CPU threads of a run; by default as in `cotbal run`."
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            help="A kind of setting not to try: micro_batch_size, packing, gradient_checkpointing,"
            " dataloader_workers, threads, dtype, compile; repeat the option for several."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Time a few optimizer steps with other settings: which train this mixture fastest on this
    machine, and which fit into its memory? Trains nothing that is kept.
    """
    from cotbal.jobs.tuning.tune import TuneOptions
    from cotbal.jobs.tuning.tune import tune as measure

    options = TuneOptions(rounds, steps, threads, without or ())
    result = measure(source.load(), options, _report)
    command = _command(source, result)
    if as_json:
        console.print_json({**result.to_json(), "command": command})
        return
    _show(result)
    _show_choice(result, command)


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _command(source: RecipeArguments, result: Tuned) -> str | None:
    """The command that uses the chosen settings; None where none is chosen."""
    if not result.overrides:
        return None
    replaced = tuple(override.partition("=")[0] + "=" for override in result.overrides)
    kept = [text for text in source.overrides or () if not text.startswith(replaced)]
    return shlex.join(["cotbal", "run", str(source.recipe), *kept, *result.overrides])


def _show(result: Tuned) -> None:
    table = console.table(
        "settings", "s per step", "time", "memory, MiB", "changes", "", title="\nOptimizer steps"
    )
    for row in result.rows:
        table.add_row(
            escape(row.settings),
            "-" if row.seconds is None else f"{row.seconds:.3g}",
            "-" if row.ratio is None else escape(str(row.ratio)),
            "-" if row.memory_mib is None else f"{row.memory_mib:,}",
            _effect(row),
            escape(row.remark),
        )
    console.show(table)
    console.out.print(
        f"time: over that of `{escape(result.reference)}`, median over rounds and \\[smallest,"
        f" largest]; memory: peak, of {result.memory_mib:,} MiB; changes: in results, with the"
        " relative difference of the first loss",
        soft_wrap=True,
    )
    if result.load is not None:
        busy = f"{result.load:.1f} processes were running on {result.cores} cores"
        advice = "rerun this on an idle machine, or with more --rounds"
        console.warn([f"{busy}, so times are noisy; {advice}"])


def _effect(row: Row) -> str:
    if row.difference is None:
        return "-"
    size = f" {row.difference:.0e}" if row.difference else ""
    return f"{row.effect}{size}"


def _show_choice(result: Tuned, command: str | None) -> None:
    from cotbal.jobs.display import duration

    before, after = result.seconds
    if command is None:
        sentences = [
            "Keep the recipe as it is: no setting that leaves results as they are is faster by more"
            " than the noise of these measurements."
        ]
    else:
        gain = "" if result.ratio is None else f"{result.ratio} of the time of a step. "
        was = "" if before is None else f", not {duration(before)}"
        sentences = [
            f"Use: {command}",
            f"{gain}The {result.steps:,} steps of a final run take about {duration(after)}{was}.",
        ]
    for sentence in (*sentences, *(f"Not chosen: {text}." for text in result.apart)):
        console.out.print(escape(sentence), soft_wrap=True)
