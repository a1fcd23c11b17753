"""The verbs that read what is there: `weights`, `status`, `rescore`, `report`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cotbal.cli.options import AsJson
from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.balance import Balance
    from cotbal.balance.probes import Form
    from cotbal.jobs.rundir import RunDir
    from cotbal.scores.matrix import ScoreMatrix


class FormName(StrEnum):
    """What `--form` takes."""

    auto = "auto"
    standard = "standard"
    simple = "simple"


class DifficultyName(StrEnum):
    """What `--difficulty` takes."""

    real = "real"
    precise = "precise"


def weights(
    scores: Annotated[
        list[Path],
        typer.Option(
            help="CSV with header `run,<task>,...`, one row per run; one table per training seed."
        ),
    ],
    form: Annotated[
        FormName,
        typer.Option(
            help=(
                "standard reads `mini` and `full:<task>`; simple reads `base`, `solo:<task>` and"
                " `solo-mini:<task>`."
            )
        ),
    ] = FormName.auto,
    difficulty: Annotated[
        DifficultyName,
        typer.Option(help="precise reads `solo:<task>` and `solo-mini:<task>` too (Eq. 17)."),
    ] = DifficultyName.real,
    temperature: Annotated[str, typer.Option(help="A number, or auto.")] = "0.5",
    low: Annotated[
        float, typer.Option(help="Smallest weight allowed by --temperature auto.")
    ] = 0.5,
    high: Annotated[
        float, typer.Option(help="Largest weight allowed by --temperature auto.")
    ] = 2.0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write weights.json and a report there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Weights from a table of validation scores that somebody already has; no recipe and no torch
    needed.
    """
    from cotbal.balance import Settings
    from cotbal.balance import balance as weigh
    from cotbal.scores.matrix import mean_matrix, read_scores

    matrices = [read_scores(path) for path in scores]
    settings = Settings(
        form=None if form == FormName.auto else cast("Form", form.value),
        difficulty=difficulty.value,
        temperature=_temperature(temperature),
        weight_range=_range(low, high),
    )
    result = weigh(matrices, settings=settings)
    common = set(matrices[0].runs).intersection(*(matrix.runs for matrix in matrices))
    rows = [run for run in matrices[0].runs if run in common]
    mean = mean_matrix([matrix.rows(rows) for matrix in matrices])
    root = None if out is None else _report_table(out, mean, result)
    show_balance(result, root, as_json)


def overall(
    results: Annotated[
        Path,
        typer.Option(
            help=(
                "CSV with header `method,<task>:<metric>,...`; metrics ending in - are better when"
                " lower."
            )
        ),
    ],
    baseline: Annotated[
        str, typer.Option(help="The method that others are measured against.")
    ] = "STL",
    as_json: AsJson = False,
) -> None:
    """Improvement and error over a baseline (Eq. 12-14) from any table of results, published ones
    too.
    """
    from cotbal.balance.improvement import overall as overall_of
    from cotbal.cli import console
    from cotbal.scores.results import read_results

    found = overall_of(read_results(results), baseline)
    if as_json:
        print(
            json.dumps(
                {"methods": {name: vars(each) for name, each in found.items()}},
                indent=1,
                ensure_ascii=False,
            )
        )
    else:
        console.show_overall(found, baseline)


def status(
    run_directory: Annotated[Path, typer.Argument(help="A run directory.")], as_json: AsJson = False
) -> None:
    """What is done, running, queued, failed, interrupted, missing."""
    from cotbal.cli import console
    from cotbal.jobs.rundir import RunDir
    from cotbal.jobs.status import status as states_of

    states = states_of(RunDir(run_directory))
    (
        print(json.dumps([vars(state) for state in states], indent=1))
        if as_json
        else console.show_status(states)
    )


def cancel(run_directory: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Stop everything of a run directory: the commands that work there, and its jobs in any queue.

    Finished runs and checkpoints are kept; a command that was stopped resumes with them.
    """
    from cotbal.jobs.queue import cancel as stop
    from cotbal.jobs.rundir import RunDir

    stopped, remarks = stop(RunDir(run_directory))
    print(
        f"called back from the queue: {', '.join(stopped)}"
        if stopped
        else "no job of it is in a queue"
    )
    for remark in remarks:
        print(remark)


def agree(
    first: Annotated[Path, typer.Argument(help="Run directory of the paper's form.")],
    second: Annotated[
        Path,
        typer.Argument(help="Run directory with other probes: smaller portions, LoRA, seeds, ..."),
    ],
    as_json: AsJson = False,
) -> None:
    """Do the weights of two run directories agree? Rank correlation and differences, with
    intervals.
    """
    from cotbal.cli import console
    from cotbal.jobs.rundir import RunDir
    from cotbal.jobs.weigh import agree as agreement_of

    found = agreement_of(RunDir(first), RunDir(second))
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        console.show_agreement(found)


def rescore(
    run_directory: Annotated[Path, typer.Argument(help="A run directory.")], as_json: AsJson = False
) -> None:
    """Score the kept answers again, after a metric was changed: scores, weights, tables, report.

    `balance`, `run` and the others do that by themselves where the code of a metric has changed;
    this scores everything, also where a file that the metric reads has changed.
    """
    from dataclasses import asdict

    from cotbal.cli import console
    from cotbal.jobs import display
    from cotbal.jobs.rescoring import rescore as score_again
    from cotbal.jobs.rundir import RunDir
    from cotbal.report import write_all

    with display.steps() as step:
        rescoring = score_again(RunDir(run_directory), step)
    page = write_all(run_directory)
    if as_json:
        content = {**asdict(rescoring), "page": str(page)}
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        console.show_rescoring(rescoring)
        print(f"Report: {page}")


def report(run_directory: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Write the report of a run directory again: report/index.html and report/tables.md."""
    from cotbal.report import write_report

    print(write_report(run_directory))


def show_balance(result: Balance, root: RunDir | None, as_json: bool) -> None:
    """Print weights, and where they were written, for a person or a script."""
    from cotbal.cli import console

    if as_json:
        print(json.dumps(result.to_json(), indent=1, ensure_ascii=False))
    else:
        console.show_balance(result)
        if root is not None:
            print(f"\nWeights: {root.weights}")


def _report_table(out: Path, matrix: ScoreMatrix, result: Balance) -> RunDir:
    from cotbal.jobs.rundir import RunDir
    from cotbal.jobs.weigh import write_balance
    from cotbal.report import write_report

    root = RunDir(out)
    if root.plan.exists():
        raise CotbalError(
            f"{out} is the run directory of a recipe and was left as it is; give another --out"
        )
    write_balance(root, matrix, result)
    write_report(out)
    return root


def _temperature(text: str) -> Any:
    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise CotbalError(f"--temperature: expected a positive number or auto; found {text!r}")
    return value


def _range(low: float, high: float) -> tuple[float, float]:
    if not 0 < low < 1 < high:
        raise CotbalError(
            f"--low and --high: expected 0 < low < 1 < high, since weights have mean 1; found {low}"
            f" and {high}"
        )
    return low, high
