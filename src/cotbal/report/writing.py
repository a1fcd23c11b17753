"""Write the files of a report, a comparison and a curve."""

from __future__ import annotations

from pathlib import Path

from cotbal.data.files import write_json, write_text
from cotbal.errors import RunError
from cotbal.jobs.rundir import RunDir
from cotbal.report import comparison, curves, responses
from cotbal.report.comparison import Comparison, compare, results_table
from cotbal.report.contents import read_contents
from cotbal.report.curves import DataCurves, data_curves
from cotbal.report.examples import examples
from cotbal.report.markdown import markdown
from cotbal.report.models import compare_all, models_of
from cotbal.report.page import page
from cotbal.report.response_views import prediction_table
from cotbal.report.responses import measured_response
from cotbal.report.tables import Table, contribution_csv


def write_report(directory: Path) -> Path:
    """Write `report/index.html` and `report/tables.md` from the content of the run directory, with
    weights `report/contribution.csv`, and with trials `report/effects.csv` and
    `report/response.json`; returns the page.

    Raises:
        RunError: the directory holds nothing that could be reported.
    """
    contents = read_contents(directory)
    models, curve = compare_all(contents), data_curves(contents)
    measured = measured_response(contents)
    report = RunDir(directory).report
    if contents.balance:
        write_text(report / "contribution.csv", contribution_csv(contents.balance))
    if measured is not None and measured.response is not None:
        write_text(report / "effects.csv", responses.to_csv(measured.response))
        write_json(report / "response.json", responses.to_json(measured))
    write_text(report / "tables.md", markdown(contents, models, curve, measured))
    text = page(contents, models, curve, measured, examples(contents))
    write_text(report / "index.html", text)
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
    models, methods = models_of(contents), compare_all(contents)
    folder = RunDir(directory).comparison
    write_text(folder / "results.csv", results_table(methods, contents.balanced).to_csv())
    for seed in methods.seeds:
        one_seed = {name: {seed: models[name][seed]} for name in methods.methods}
        alone = compare(one_seed, contents.tasks, contents.balanced)
        table = results_table(alone, contents.balanced).to_csv()
        write_text(folder / f"results-seed-{seed}.csv", table)
    write_json(folder / "comparison.json", comparison.to_json(methods))
    return methods


def prediction_tables(directory: Path) -> list[Table]:
    """What `cotbal steer` predicted against what came out, one table per goal with outcomes."""
    measured = measured_response(read_contents(directory))
    predictions = measured.predictions if measured else ()
    return [prediction_table(frozen) for frozen in predictions if frozen.verdict is not None]


def write_curve(directory: Path) -> DataCurves:
    """Write `curve/scores.csv`, a score matrix with one row per run (mean over seeds), and
    `curve/curve.json`.

    With several training seeds, `seed-<n>/curve/scores.csv` holds those of one.

    Raises:
        RunError: no run of the curve is done.
    """
    shown, files = data_curves(read_contents(directory)), RunDir(directory)
    if shown is None:
        raise RunError(
            f"{directory}: expected finished runs of a curve; found none. `cotbal curve RECIPE`"
            " trains them.",
            "no-finished-run",
        )
    write_text(files.curve_table, shown.mean.to_csv())
    if len(shown.matrices) > 1:
        for seed, matrix in shown.matrices.items():
            write_text(files.seeded(seed).curve_table, matrix.to_csv())
    write_json(files.curve_numbers, curves.to_json(shown))
    return shown
