"""`cotbal import`: scores that an evaluation harness wrote, as the table that `cotbal weights
--scores` reads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.scores.harnesses import Evaluation

app = typer.Typer(
    help="Scores of an evaluation harness, for `cotbal weights --scores`.", no_args_is_help=True
)

Runs = Annotated[
    list[str],
    typer.Argument(
        help="RUN=DIRECTORY for every probe: mini=..., full:TASK=...", show_default=False
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", help="scores.json keeps the samples, and so the intervals; or scores.csv."
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        help="TASK=BENCHMARK or TASK=BENCHMARK:METRIC, once a task; all benchmarks by default.",
    ),
]


@app.command("lmms-eval")
def import_lmms_eval(runs: Runs, out: Out, task: Tasks = None) -> None:
    """Directories that lmms-eval wrote with --output_path, and --log_samples for intervals."""
    from cotbal.scores.harnesses import lmms_eval

    _import(lmms_eval.read, runs, out, task or [])


@app.command("vlmevalkit")
def import_vlmevalkit(runs: Runs, out: Out, task: Tasks = None) -> None:
    """Folders of models that VLMEvalKit wrote below its work directory."""
    from cotbal.scores.harnesses import vlmevalkit

    _import(vlmevalkit.read, runs, out, task or [])


def _import(
    read: Callable[[Path], Evaluation], runs: list[str], out: Path, tasks: list[str]
) -> None:
    from cotbal.jobs.rundir import write_json, write_text
    from cotbal.scores.harnesses.matrix import columns_of, score_matrix

    if out.suffix not in (".csv", ".json"):
        raise CotbalError(f"--out: expected a name that ends in .csv or .json; found {out}")
    evaluations = {name: read(Path(path)) for name, path in _pairs(runs, "RUN=DIRECTORY").items()}
    matrix, reason = score_matrix(
        evaluations, columns_of(evaluations, _pairs(tasks, "--task TASK=BENCHMARK"))
    )
    for evaluation in evaluations.values():
        for line in evaluation.warnings:
            print(f"warning  {line}")
    if reason:
        print(f"without samples, so that weights get no intervals: {reason}")
    elif out.suffix == ".csv":
        print("a .csv holds no samples, so that weights get no intervals; a .json does")
    write_text(out, matrix.to_csv()) if out.suffix == ".csv" else write_json(out, matrix.to_json())
    print(
        f"Wrote {out}: {len(matrix.runs)} runs, {len(matrix.tasks)} tasks. Now: cotbal weights"
        f" --scores {out}"
    )


def _pairs(texts: list[str], form: str) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    names = [name for name, _, _ in pairs]
    if not all(name and sign and value for name, sign, value in pairs) or len(set(names)) < len(
        names
    ):
        raise CotbalError(f"expected {form}, every name once; found {' '.join(texts)}")
    return {name: value for name, _, value in pairs}
