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
            found, archived = verifying.repair(RunDir(run_directory), step)
        else:
            found = verifying.verify(RunDir(run_directory), step)
    if as_json:
        console.print_json(to_json(found, archived, run_directory))
    else:
        show(found, archived, run_directory)
    if found.differences:
        raise typer.Exit(1)


def to_json(found: Verification, archived: list[Path], directory: Path) -> dict[str, Any]:
    """What `--json` prints; paths are relative to the run directory."""

    def names(paths: tuple[Path, ...] | list[Path]) -> list[str]:
        return [str(path.relative_to(directory)) for path in paths]

    return {
        "compared": found.compared,
        "scores": found.scores,
        "differences": [
            {
                "file": str(difference.file.relative_to(directory)),
                "problem": difference.problem,
                "redo": difference.redo,
                "archive": names(difference.archived),
            }
            for difference in found.differences
        ],
        "unchecked": list(found.unchecked),
        "leftovers": names(found.leftovers),
        "archived": names(archived),
    }


def show(found: Verification, archived: list[Path], directory: Path) -> None:
    """One line per difference, then what could not be checked."""
    from cotbal.report.formatting import plural

    for difference in found.differences:
        file = difference.file.relative_to(directory)
        line = f"{file}: {difference.problem}; {difference.redo}"
        console.out.print(f"[red]differs[/]  {escape(line)}", soft_wrap=True)
    for line in found.unchecked:
        console.out.print(f"[yellow]unchecked[/]  {escape(line)}", soft_wrap=True)
    for path in found.leftovers:
        line = f"{path.relative_to(directory)}: of a process that has ended"
        console.out.print(f"[dim]leftover[/]  {escape(line)}", soft_wrap=True)
    differences = plural(len(found.differences), "difference")
    print(
        f"{plural(found.compared, 'file')} compared,"
        f" {plural(found.scores, 'file')} of scores computed again, {differences}"
    )
    if archived:
        print(f"archived: {', '.join(str(path.relative_to(directory)) for path in archived)}")
    if found.differences:
        print("Rerun the command of the job." if archived else "Repair with --repair.")
