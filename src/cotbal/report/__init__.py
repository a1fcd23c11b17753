"""The report of a run directory: one self-contained HTML page, and its tables as Markdown."""

from __future__ import annotations

from pathlib import Path

from cotbal.report.comparison import compare
from cotbal.report.contents import read_contents
from cotbal.report.examples import examples
from cotbal.report.markdown import markdown
from cotbal.report.page import page
from cotbal.rundir import RunDir, write_text

__all__ = ["write_report"]


def write_report(directory: Path) -> Path:
    """Write `report/index.html` and `report/tables.md` from what the run directory holds; returns the page.

    Raises:
        RunError: the directory holds nothing that could be reported.
    """
    contents = read_contents(directory)
    found = compare(contents.finals, contents.tasks, contents.balanced)
    report = RunDir(directory).report
    write_text(report / "tables.md", markdown(contents, found))
    write_text(report / "index.html", page(contents, found, examples(contents)))
    return report / "index.html"
