"""`cotbal rescore`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import AsJson, RunDirectory

if TYPE_CHECKING:
    from cotbal.jobs.rescoring import Rescoring


def rescore(run_directory: RunDirectory, as_json: AsJson = False) -> None:
    """Score the kept answers again, after a metric was changed: scores, weights, tables, report.

    `balance`, `run` and the others do that by themselves where the code of a metric has changed;
    this scores everything, also where a file that the metric reads has changed.
    """
    from cotbal.jobs import display, rescoring
    from cotbal.jobs.rundir import RunDir
    from cotbal.report import write_all

    with display.steps() as step:
        rescored = rescoring.rescore(RunDir(run_directory), step)
    page = write_all(run_directory)
    if as_json:
        console.print_json({**asdict(rescored), "page": str(page)})
    else:
        show_rescoring(rescored)
        print(f"Report: {page}")


def show_rescoring(rescored: Rescoring) -> None:
    """Scores and weights that differ from those before."""
    from cotbal.report.formatting import plural

    changed = [score for score in rescored.scores if score.before != score.after]
    if changed:
        table = console.table(
            "run", "task", "split", "metric", "before", "after", title="Changed scores"
        )
        for score in changed:
            before = "" if score.before is None else f"{score.before:.4f}"
            names = map(escape, (score.run, score.task, score.split, score.metric))
            table.add_row(*names, before, f"{score.after:.4f}")
        console.show(table)
    print(f"{plural(len(rescored.scores), 'score')} computed again, {len(changed)} changed")
    for unit, weight in rescored.after.items():
        before_it = rescored.before.get(unit, float("nan"))
        if weight != before_it:
            print(f"weight of {unit}: {before_it:.4f} -> {weight:.4f}")
