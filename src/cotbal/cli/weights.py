"""`cotbal weights`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cotbal.cli.balance import print_balance
from cotbal.cli.options import AsJson
from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.balance import Balance
    from cotbal.jobs.rundir import RunDir
    from cotbal.scores.matrix import ScoreMatrix


def weights(
    scores: Annotated[
        list[Path],
        typer.Option(
            help="CSV with header `run,<task>,...`, one row per run; one table per training seed."
        ),
    ],
    form: Annotated[
        Literal["auto", "standard", "simple"],
        typer.Option(
            help=(
                "standard reads `mini` and `full:<task>`; simple reads `base`, `solo:<task>` and"
                " `solo-mini:<task>`."
            )
        ),
    ] = "auto",
    difficulty: Annotated[
        Literal["real", "precise"],
        typer.Option(help="precise reads `solo:<task>` and `solo-mini:<task>` too (Eq. 17)."),
    ] = "real",
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
    """Compute weights from a table of validation scores. Needs no recipe and no torch."""
    from cotbal.balance import Settings
    from cotbal.balance import balance as weigh
    from cotbal.scores.matrix import in_one_order, mean_matrix, read_scores

    matrices = in_one_order([read_scores(path) for path in scores])
    settings = Settings(
        form=None if form == "auto" else form,
        difficulty=difficulty,
        temperature=_temperature(temperature),
        weight_range=_range(low, high),
    )
    result = weigh(matrices, settings=settings)
    common = [run for run in matrices[0].runs if _in_all(run, matrices)]
    mean = mean_matrix([matrix.rows(common) for matrix in matrices])
    root = None if out is None else _report(out, mean, result)
    print_balance(result, root, as_json)


def _report(out: Path, matrix: ScoreMatrix, result: Balance) -> RunDir:
    from cotbal.jobs.rundir import RunDir
    from cotbal.jobs.weigh import write_balance
    from cotbal.report import write_report

    root = RunDir(out)
    if root.plan.exists():
        raise CotbalError(
            f"{out} is the run directory of a recipe and was left as it is; give another --out",
            "existing-output",
        )
    write_balance(root, matrix, result)
    write_report(out)
    return root


def _temperature(text: str) -> float | Literal["auto"]:
    if text == "auto":
        return "auto"
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise CotbalError(
            f"--temperature: expected a positive number or auto; found {text!r}", "invalid-option"
        )
    return value


def _range(low: float, high: float) -> tuple[float, float]:
    if not 0 < low < 1 < high:
        raise CotbalError(
            f"--low and --high: expected 0 < low < 1 < high, since weights have mean 1; found {low}"
            f" and {high}",
            "invalid-option",
        )
    return low, high


def _in_all(run: str, matrices: Sequence[ScoreMatrix]) -> bool:
    return all(run in matrix.runs for matrix in matrices)
