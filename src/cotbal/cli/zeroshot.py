"""`cotbal zeroshot`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson, JobOptions, Without
from cotbal.cli.overall import show_overall
from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.benchmarks.zeroshot.command import How
    from cotbal.benchmarks.zeroshot.study import Plan
    from cotbal.scores.results import Results


@dataclass(frozen=True)
class ModelOptions:
    """How models are evaluated."""

    as_trained: Annotated[
        bool,
        typer.Option(
            "--as-trained", help="Keep processor and chat template, instead of those of LLaVA-1.5."
        ),
    ] = False
    dtype: Annotated[str, typer.Option(help="Data type of the weights.")] = "bfloat16"
    device: Annotated[
        str | None, typer.Option(help="Device, such as cuda:0; cpu by default without a GPU.")
    ] = None
    limit: Annotated[
        int | None, typer.Option(min=1, help="Questions per task, for a first try.")
    ] = None
    model: Annotated[
        str, typer.Option(help="Another model of lmms-eval, whose checkpoint is not prepared.")
    ] = ""
    model_args: Annotated[str, typer.Option(help="More arguments of the model.")] = ""

    def how(self) -> How:
        """The same for lmms-eval, on a GPU if there is one."""
        from cotbal.benchmarks.zeroshot import command
        from cotbal.jobs.executors.processes import visible_gpus

        device = self.device or ("cuda:0" if visible_gpus() else "cpu")
        model = self.model or command.MODEL
        return command.How(self.dtype, device, self.limit, model, self.model_args, self.as_trained)


def zeroshot(
    out: Annotated[Path, typer.Option("--out", help="Where results are written, and kept.")],
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(
            help="Checkpoints, DIRECTORY or NAME=DIRECTORY; none to show what --out holds."
        ),
    ] = None,
    python: Annotated[
        str, typer.Option(help="Interpreter of the environment that has lmms-eval.")
    ] = "",
    columns: Annotated[str, typer.Option(help="Benchmarks, separated by commas, or all.")] = "all",
    baseline: Annotated[
        str, typer.Option(help="The model that others are measured against.")
    ] = "EW",
    *,
    models: ModelOptions,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show every command, and stop.")
    ] = False,
    job: Annotated[JobOptions, Without("report_to", "address", "keep_checkpoints")],
    as_json: AsJson = False,
) -> None:
    """Evaluate models on the eight zero-shot columns of the paper's Table 2, through lmms-eval, and
    compute their improvement against EW (Eq. 12, 13).
    """
    from cotbal.benchmarks.zeroshot import command, study
    from cotbal.benchmarks.zeroshot.columns import columns_named

    if checkpoints:
        if not python:
            raise CotbalError(
                "--python: expected the interpreter of an environment with lmms-eval:"
                f" {command.INSTALL}",
                "missing-option",
            )
        how, wanted = models.how(), columns_named(columns)
        named, environment = study.models_named(checkpoints), command.find_environment(python)
        plan = study.plan(out, named, wanted, environment, how, job.restart_changed)
        if not as_json:
            _show_plan(plan)
        if dry_run:
            return
        _run(plan, job, quiet=as_json)
    _show_table(out, baseline, as_json)


def _run(plan: Plan, job: JobOptions, quiet: bool) -> None:
    from cotbal.benchmarks.zeroshot import study
    from cotbal.data.files import locked

    with locked(plan.root / "lock"):
        report = (lambda _: None) if quiet else print
        study.run_plan(plan, job.on, job.to_options().resources, report)


def _show_plan(plan: Plan) -> None:
    from cotbal.benchmarks.zeroshot import command

    changes = [
        f"{name}: {line}" for name, p in plan.preparations.items() if p for line in p.changes
    ]
    for line in changes:
        print(line)
    if changes:
        print(
            "--as-trained leaves a checkpoint as it is: right for models that were trained with"
            " what is changed here"
        )
    console.warn(plan.environment.warnings)
    for cell in plan.kept:
        print(f"{cell.model}, {cell.column.name}: done before, kept")
    for work in plan.works:
        print(f"\n{work.cell.model}, {work.cell.column.name}:")
        print(f"  {command.shown(work.argv, command.variables(plan.lmms))}", flush=True)


def _show_table(out: Path, baseline: str, as_json: bool) -> None:
    from cotbal.balance.improvement import overall
    from cotbal.benchmarks.zeroshot.cells import read_table
    from cotbal.data.files import write_text

    table = read_table(out, baseline)
    if table.results is None:
        raise CotbalError(
            f"{out}: expected evaluated models; found no column that all of them have",
            "missing-results",
        )
    write_text(out / "results.csv", table.results.to_csv())
    changes = overall(table.results, baseline) if baseline in table.results.methods else {}
    if as_json:
        rows = zip(table.results.methods, table.results.values.tolist(), strict=True)
        content = {
            "columns": [str(column) for column in table.results.columns],
            "values": dict(rows),
            "improvement": {name: vars(change) for name, change in changes.items()},
            "warnings": list(table.warnings),
        }
        console.print_json(content)
        return
    show_results(table.results, table.warnings)
    if changes:
        show_overall(changes, baseline)
    else:
        print(f"No model is called {baseline}: nothing to measure the others against (--baseline)")
    print(f"\nTable: {out / 'results.csv'}")


def show_results(results: Results, warnings: Sequence[str]) -> None:
    """What every method scored, and what to know about these numbers."""
    table = console.table("method", *map(str, results.columns))
    for name, row in zip(results.methods, results.values, strict=True):
        table.add_row(escape(name), *(f"{value:.2f}" for value in row))
    console.show(table)
    console.warn(warnings)
