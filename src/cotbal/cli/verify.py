"""`cotbal verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson, RunDirectory

if TYPE_CHECKING:
    from cotbal.jobs.verify import Verification


def verify(
    run_directory: RunDirectory,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help=(
                "Archive what differs, so that rerunning the command of the job makes exactly that"
                " again, and remove what ended processes left incomplete."
            ),
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every file of a run directory with its digest, scores with answers, weights with
    scores.

    Exits with 1 if something differs, also after --repair.
    """
    from cotbal.jobs import display
    from cotbal.jobs import verify as verifying
    from cotbal.jobs.rundir import RunDir

    archived: list[Path] = []
    with display.steps() as step:
        if repair:
            verification, archived = verifying.repair(RunDir(run_directory), step)
        else:
            verification = verifying.verify(RunDir(run_directory), step)
    if as_json:
        console.print_json(to_json(verification, archived, run_directory))
    else:
        show(verification, archived, run_directory)
    if verification.differences:
        raise typer.Exit(1)


def to_json(verification: Verification, archived: list[Path], directory: Path) -> dict[str, Any]:
    """What `--json` prints; paths are relative to the run directory."""

    def names(paths: tuple[Path, ...] | list[Path]) -> list[str]:
        return [str(path.relative_to(directory)) for path in paths]

    return {
        "compared": verification.compared,
        "scores": verification.scores,
        "differences": [
            {
                "file": str(difference.file.relative_to(directory)),
                "problem": difference.problem,
                "redo": difference.redo,
                "archive": names(difference.archived),
            }
            for difference in verification.differences
        ],
        "unchecked": list(verification.unchecked),
        "leftovers": names(verification.leftovers),
        "archived": names(archived),
    }


def show(verification: Verification, archived: list[Path], directory: Path) -> None:
    """One line per difference, then what could not be checked."""
    from cotbal.report.formatting import plural

    for difference in verification.differences:
        file = difference.file.relative_to(directory)
        line = f"{file}: {difference.problem}; {difference.redo}"
        console.out.print(f"[red]differs[/]  {escape(line)}", soft_wrap=True)
    for line in verification.unchecked:
        console.out.print(f"[yellow]unchecked[/]  {escape(line)}", soft_wrap=True)
    for path in verification.leftovers:
        line = f"{path.relative_to(directory)}: of a process that has ended"
        console.out.print(f"[dim]leftover[/]  {escape(line)}", soft_wrap=True)
    differences = plural(len(verification.differences), "difference")
    print(
        f"{plural(verification.compared, 'file')} compared,"
        f" {plural(verification.scores, 'file')} of scores computed again, {differences}"
    )
    if archived:
        names = [str(path.relative_to(directory)) for path in archived]
        print(f"archived: {', '.join(names)}")
    if archived:
        print("Rerun the command of the job.")
    elif any(difference.archived for difference in verification.differences):
        print("Repair with --repair.")
