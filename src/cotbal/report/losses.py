"""Losses during training, one panel per task, and the weights of methods that change them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from cotbal.balance.probes import MINI, full_run
from cotbal.jobs.elbow import curve, elbow_of
from cotbal.report.comparison import BASELINE, OURS
from cotbal.report.contents import Contents, RunContents
from cotbal.report.line_plots import Line, Look, line_plot
from cotbal.weightings import method_label

CONSTANT = 1e-9  # weights that change less than this are fixed


def probe_panels(contents: Contents) -> list[Markup]:
    """The losses of every task during the probes; of many probes, its own and the first."""
    probes = contents.of_first_seed(contents.probes)

    def look(run: str, task: str) -> Look:
        unit = contents.unit_of(task)
        return _probe_look(run, unit)

    return _panels(contents, probes, look)


def final_panels(contents: Contents) -> list[Markup]:
    """The losses of every task during the final trainings; the elbow of EW's suggests the size of a
    mini.
    """
    finals = contents.of_first_seed(contents.finals)
    return _panels(contents, finals, lambda run, _: _final_look(run))


def weight_panels(contents: Contents) -> list[Markup]:
    """Weights of every step, one panel per method whose weights change."""
    panels = []
    for run in contents.of_first_seed(contents.finals):
        drawn = []
        for task in contents.drawn:
            points = weights(run.losses, task)
            if points:
                drawn.append(Line(task, "other", points))
        if any(map(_changes, drawn)):
            panels.append(line_plot(method_label(run.name), "Weights", drawn))
    return panels


def _changes(line: Line) -> bool:
    values = [value for _, value in line.points]
    spread = max(values) - min(values)
    return spread > CONSTANT


def _final_look(run: str) -> Look:
    looks: dict[str, Look] = {OURS: "ours", BASELINE: "baseline"}
    return looks.get(run, "other")


def _probe_look(run: str, unit: str) -> Look:
    looks: dict[str, Look] = {full_run(unit): "ours", MINI: "baseline"}
    return looks.get(run, "other")


def _panels(
    contents: Contents, runs: Sequence[RunContents], look: Callable[[str, str], Look]
) -> list[Markup]:
    panels = []
    for task in contents.drawn:
        drawn = []
        for run in contents.compared(runs, task):
            line = _loss_line(run, task, look(run.name, task))
            if line.points:
                drawn.append(line)
        if drawn:
            panels.append(line_plot(task, "Training loss", drawn))
    return panels


def _loss_line(run: RunContents, task: str, look: Look) -> Line:
    """Losses of one task; only the line of EW's final model has an elbow."""
    label = method_label(run.name)
    points = curve(run.losses, task)
    is_baseline = run.kind == "final" and run.name == BASELINE
    epoch = elbow_of(run.losses, task) if is_baseline else None
    if epoch is None:
        return Line(label, look, points)
    by_epoch = dict(points)
    elbow = (epoch, by_epoch[epoch])
    return Line(label, look, points, elbow)


def weights(rows: Sequence[Mapping[str, Any]], task: str) -> tuple[tuple[float, float], ...]:
    """(epoch, weight) of one task at every logged step."""
    points = []
    for row in rows:
        of_step = row.get("weights", {})
        if task in of_step:
            points.append((row["epoch"], of_step[task]))
    return tuple(points)
