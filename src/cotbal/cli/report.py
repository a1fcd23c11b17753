"""`cotbal report`."""

from __future__ import annotations

from cotbal.cli.options import RunDirectory


def report(run_directory: RunDirectory) -> None:
    """Write the report of a run directory again: report/index.html and report/tables.md."""
    from cotbal.report import write_report

    print(write_report(run_directory))
