"""The verb that evaluates on benchmarks of others: `zeroshot`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cotbal.cli.options import AsJson, On, Restart, Threads, Workers
from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.benchmarks.zeroshot.study import Plan


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
    as_trained: Annotated[
        bool,
        typer.Option(
            "--as-trained", help="Keep processor and chat template, instead of those of LLaVA-1.5."
        ),
    ] = False,
    dtype: Annotated[str, typer.Option(help="Of the weights.")] = "bfloat16",
    device: Annotated[
        str | None, typer.Option(help="cuda:0, or cpu where there is no GPU.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Questions a task, for a first try.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="Another model of lmms-eval, whose checkpoint is not prepared.")
    ] = "",
    model_args: Annotated[str, typer.Option(help="More arguments of the model.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show every command, and stop.")
    ] = False,
    on: On = "processes",
    workers: Workers = None,
    threads: Threads = None,
    restart_changed: Restart = False,
    as_json: AsJson = False,
) -> None:
    """The eight zero-shot columns of the paper's Table 2, through lmms-eval; improvement against EW
    (Eq. 12, 13).
    """
    if checkpoints:
        settings = dtype, device, limit, model, model_args, as_trained
        plan = _plan(out, checkpoints, python, columns, settings, restart_changed)
        if not as_json:
            _show_plan(plan)
        if dry_run:
            return
        _run(plan, on, workers, threads, quiet=as_json)
    _show_table(out, baseline, as_json)


def _plan(
    out: Path,
    checkpoints: list[str],
    python: str,
    columns: str,
    settings: tuple[str, str | None, int | None, str, str, bool],
    restart_changed: bool,
) -> Plan:
    from cotbal.benchmarks.zeroshot import command, study
    from cotbal.benchmarks.zeroshot.columns import columns_named
    from cotbal.jobs.executors.processes import visible_gpus

    if not python:
        raise CotbalError(
            "--python: expected the interpreter of an environment with lmms-eval:"
            f" {command.INSTALL}"
        )
    dtype, device, limit, model, model_args, as_trained = settings
    chosen = device or ("cuda:0" if visible_gpus() else "cpu")
    how = command.How(dtype, chosen, limit, model or command.MODEL, model_args, as_trained)
    models, wanted = study.models_named(checkpoints), columns_named(columns)
    environment = command.find_environment(python)
    return study.plan(out, models, wanted, environment, how, restart_changed)


def _run(plan: Plan, on: str, workers: int | None, threads: int | None, quiet: bool) -> None:
    from cotbal.benchmarks.zeroshot import study
    from cotbal.data.files import locked
    from cotbal.jobs.executors import Resources

    with locked(plan.root / "lock"):
        report = (lambda _: None) if quiet else print
        study.run_plan(plan, on, Resources(workers, threads), report)


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
    for line in plan.environment.warnings:
        print(f"warning  {line}")
    for cell in plan.kept:
        print(f"{cell.model}, {cell.column.name}: done before, kept")
    for work in plan.works:
        print(f"\n{work.cell.model}, {work.cell.column.name}:")
        print(f"  {command.shown(work.argv, command.variables(plan.lmms))}", flush=True)


def _show_table(out: Path, baseline: str, as_json: bool) -> None:
    from cotbal.balance.improvement import overall
    from cotbal.benchmarks.zeroshot.cells import read_table
    from cotbal.cli import console
    from cotbal.data.files import write_text

    table = read_table(out, baseline)
    if table.results is None:
        raise CotbalError(
            f"{out}: expected evaluated models; found no column that all of them have"
        )
    write_text(out / "results.csv", table.results.to_csv())
    found = overall(table.results, baseline) if baseline in table.results.methods else {}
    if as_json:
        rows = zip(table.results.methods, table.results.values.tolist(), strict=True)
        content = {
            "columns": [str(column) for column in table.results.columns],
            "values": dict(rows),
            "improvement": {name: vars(each) for name, each in found.items()},
            "warnings": list(table.warnings),
        }
        print(json.dumps(content, indent=1, ensure_ascii=False))
        return
    console.show_results(table.results, table.warnings)
    if found:
        console.show_overall(found, baseline)
    else:
        print(
            f"No model is called {baseline}, so that there is nothing to measure the others against"
            " (--baseline)"
        )
    print(f"\nTable: {out / 'results.csv'}")
