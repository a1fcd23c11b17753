"""The report of a run directory: one self-contained HTML page, and its tables as Markdown."""

from __future__ import annotations

from pathlib import Path

from cotbal.data.files import write_json, write_text
from cotbal.errors import RunError
from cotbal.jobs.rundir import RunDir
from cotbal.report.amounts import AmountCurves, amount_curves
from cotbal.report.amounts import to_json as curves_to_json
from cotbal.report.comparison import Comparison, compare
from cotbal.report.contents import read_contents
from cotbal.report.examples import examples
from cotbal.report.markdown import markdown
from cotbal.report.models import compare_all, models_of, results_table, to_json
from cotbal.report.page import page

__all__ = ["write_all", "write_comparison", "write_curve", "write_report"]


def write_report(directory: Path) -> Path:
    """Write `report/index.html` and `report/tables.md` from what the run directory holds; returns
    the page.

    Raises:
        RunError: the directory holds nothing that could be reported.
    """
    contents = read_contents(directory)
    found, curves = compare_all(contents), amount_curves(contents)
    report = RunDir(directory).report
    write_text(report / "tables.md", markdown(contents, found, curves))
    write_text(report / "index.html", page(contents, found, curves, examples(contents)))
    return report / "index.html"


def write_all(directory: Path) -> Path:
    """Rewrite the report, and the tables of a comparison or curve where there are any."""
    files = RunDir(directory)
    if files.comparison.exists():
        write_comparison(directory)
    if files.curve_numbers.exists():
        write_curve(directory)
    return write_report(directory)


def write_comparison(directory: Path) -> Comparison:
    """Write `comparison/`: tables of the test results for `cotbal overall`, and every number with
    its interval.

    `results.csv` holds means over the seeds that its methods share, `results-seed-<n>.csv` those of
    one seed, and `comparison.json` improvement, error and paired differences.
    """
    contents = read_contents(directory)
    found = compare_all(contents)
    folder, models = RunDir(directory).comparison, models_of(contents)
    write_text(folder / "results.csv", results_table(found, contents).to_csv())
    for seed in found.seeds:
        one = compare(
            {name: {seed: models[name][seed]} for name in found.methods},
            contents.tasks,
            contents.balanced,
        )
        write_text(folder / f"results-seed-{seed}.csv", results_table(one, contents).to_csv())
    write_json(folder / "comparison.json", to_json(found))
    return found


def write_curve(directory: Path) -> AmountCurves:
    """Write `curve/scores.csv`, a score matrix with a row an amount (mean over seeds), and
    `curve/curve.json`.

    With several training seeds, `seed-<n>/curve/scores.csv` holds those of one.

    Raises:
        RunError: no run of the curve is done.
    """
    found, files = amount_curves(read_contents(directory)), RunDir(directory)
    if found is None:
        raise RunError(
            f"{directory}: expected finished runs of a curve; found none; `cotbal curve RECIPE`"
            " makes them"
        )
    write_text(files.curve_table, found.mean.to_csv())
    for seed, matrix in found.matrices.items() if len(found.matrices) > 1 else ():
        write_text(files.seeded(seed).curve_table, matrix.to_csv())
    write_json(files.curve_numbers, curves_to_json(found))
    return found
