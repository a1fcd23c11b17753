"""`cotbal import`: scores that an evaluation harness wrote, as the table that `cotbal weights
--scores` reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cotbal.cli import console
from cotbal.cli.options import expanded
from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.scores.harnesses import Evaluation

app = typer.Typer(
    name="import",
    help="Scores of an evaluation harness, for `cotbal weights --scores`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@dataclass(frozen=True)
class ImportOptions:
    """What is read, and the table that is written."""

    runs: Annotated[
        list[str],
        typer.Argument(
            help="RUN=DIRECTORY for every probe: mini=..., full:TASK=...", show_default=False
        ),
    ]
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="scores.json keeps the samples, and so the intervals; or scores.csv."
        ),
    ]
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            help=(
                "TASK=BENCHMARK or TASK=BENCHMARK:METRIC, once per task; all benchmarks by default."
            ),
        ),
    ] = None


def lmms_eval(options: ImportOptions) -> None:
    """Directories that lmms-eval wrote with --output_path, and --log_samples for intervals."""
    from cotbal.scores.harnesses.lmms_eval import read

    _import(read, options)


def vlmevalkit(options: ImportOptions) -> None:
    """Folders of models that VLMEvalKit wrote below its work directory."""
    from cotbal.scores.harnesses.vlmevalkit import read

    _import(read, options)


for command in (lmms_eval, vlmevalkit):
    app.command()(expanded(command))


def _import(read: Callable[[Path], Evaluation], options: ImportOptions) -> None:
    from cotbal.data.files import write_json, write_text
    from cotbal.report.formatting import plural
    from cotbal.scores.harnesses.matrix import columns_of, score_matrix

    out = options.out
    if out.suffix not in (".csv", ".json"):
        raise CotbalError(
            f"--out: expected a name that ends in .csv or .json; found {out}", "invalid-option"
        )
    runs = _pairs(options.runs, "RUN=DIRECTORY")
    evaluations = {name: read(Path(path)) for name, path in runs.items()}
    tasks = _pairs(options.task or [], "--task TASK=BENCHMARK")
    matrix, reason = score_matrix(evaluations, columns_of(evaluations, tasks))
    for evaluation in evaluations.values():
        console.warn(evaluation.warnings)
    if reason:
        print(f"without samples, so that weights get no intervals: {reason}")
    elif out.suffix == ".csv":
        print("a .csv holds no samples, so that weights get no intervals; a .json does")
    if out.suffix == ".csv":
        write_text(out, matrix.to_csv())
    else:
        write_json(out, matrix.to_json())
    size = f"{plural(len(matrix.runs), 'run')}, {plural(len(matrix.tasks), 'task')}"
    print(f"Wrote {out}: {size}. Now: cotbal weights --scores {out}")


def _pairs(texts: list[str], form: str) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    values = {name: value for name, _, value in pairs}
    if not all(values) or not all(values.values()) or len(values) < len(pairs):
        raise CotbalError(
            f"expected {form}, every name once; found {' '.join(texts)}", "invalid-option"
        )
    return values
