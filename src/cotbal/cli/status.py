"""`cotbal status`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson, RunDirectory

if TYPE_CHECKING:
    from cotbal.jobs.status import State

COLOURS = {
    "done": "green",
    "failed": "red",
    "running": "cyan",
    "queued": "blue",
    "unknown": "yellow",
    "interrupted": "yellow",
    "missing": "dim",
}


def status(run_directory: RunDirectory, as_json: AsJson = False) -> None:
    """Show which runs are done, running, queued, failed, interrupted or missing."""
    from cotbal.jobs.rundir import RunDir
    from cotbal.jobs.status import status as states_of

    states = states_of(RunDir(run_directory))
    if as_json:
        console.print_json([vars(state) for state in states])
    else:
        show_status(states)


def show_status(states: Sequence[State]) -> None:
    """One line per run."""
    table = console.table("run", "kind", "state", "")
    for s in states:
        state = f"[{COLOURS[s.state]}]{s.state}[/]"
        table.add_row(escape(s.run), s.kind, state, escape(s.detail))
    console.show(table)
