"""What happened during training: loss curves, one panel a task, and the weights of methods that
move them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from cotbal.jobs.elbow import bend
from cotbal.recipe.runs import MINI, full_run
from cotbal.report.comparison import BASELINE, OURS
from cotbal.report.contents import Contents, RunContents
from cotbal.report.naming import method_label
from cotbal.report.panels import Curve, Look, panel

POINTS = 60  # a curve; more could not be told apart in a small panel
STILL = 1e-9  # weights that move less than this are fixed


def probe_panels(contents: Contents) -> list[Markup]:
    """The losses of every task during the probes."""
    probes = contents.of_first_seed(contents.probes)
    return _panels(contents, probes, lambda run, task: _probe_look(run, contents.unit_of(task)))


def final_panels(contents: Contents) -> list[Markup]:
    """The losses of every task during the final trainings; the bend of EW's suggests the size of a
    mini.
    """
    return _panels(
        contents, contents.of_first_seed(contents.finals), lambda run, _: _final_look(run)
    )


def weight_panels(contents: Contents) -> list[Markup]:
    """Weights of every step, one panel a method whose weights move."""
    panels = []
    for run in contents.of_first_seed(contents.finals):
        curves = [Curve(task, "other", weights(run.losses, task)) for task in contents.tasks]
        drawn = [found for found in curves if found.points]
        if drawn and max(np.ptp([y for _, y in found.points]) for found in drawn) > STILL:
            panels.append(panel(method_label(run.name), "Weights", drawn))
    return panels


def _final_look(run: str) -> Look:
    return "ours" if run == OURS else "baseline" if run == BASELINE else "other"


def _probe_look(run: str, unit: str) -> Look:
    return "ours" if run == full_run(unit) else "baseline" if run == MINI else "other"


def _panels(
    contents: Contents, runs: Sequence[RunContents], look: Callable[[str, str], Look]
) -> list[Markup]:
    panels = []
    for task in contents.tasks:
        curves = [_loss_curve(run, task, look(run.name, task)) for run in runs]
        drawn = [found for found in curves if found.points]
        if drawn:
            panels.append(panel(task, "Training loss", drawn))
    return panels


def _loss_curve(run: RunContents, task: str, look: Look) -> Curve:
    points = curve(run.losses, task)
    at = bend_of(run.losses, task) if run.kind == "final" and run.name == BASELINE else None
    return Curve(
        method_label(run.name), look, points, None if at is None else (at, dict(points)[at])
    )


def curve(rows: Sequence[Mapping[str, Any]], task: str) -> tuple[tuple[float, float], ...]:
    """(epoch, loss) of one task, averaged by tokens so that at most `POINTS` points are left."""
    seen = [row for row in rows if task in row.get("task_losses", {})]
    size = -(-len(seen) // POINTS)
    return tuple(
        _mean(seen[start : start + size], task) for start in range(0, len(seen), size or 1)
    )


def _mean(rows: Sequence[Mapping[str, Any]], task: str) -> tuple[float, float]:
    tokens = [row["task_tokens"][task] for row in rows]
    loss = sum(row["task_losses"][task] * n for row, n in zip(rows, tokens, strict=True)) / sum(
        tokens
    )
    return sum(row["epoch"] for row in rows) / len(rows), loss


def weights(rows: Sequence[Mapping[str, Any]], task: str) -> tuple[tuple[float, float], ...]:
    """(epoch, weight) of one task at every logged step."""
    return tuple(
        (row["epoch"], row["weights"][task]) for row in rows if task in row.get("weights", {})
    )


def bend_of(rows: Sequence[Mapping[str, Any]], task: str) -> float | None:
    """The epoch at which the loss of a task bends, within the first epoch; see
    `cotbal.jobs.elbow`."""
    points = [(x, y) for x, y in curve(rows, task) if x <= 1.0]
    if not points:
        return None
    amounts, losses = np.array(points).T
    return bend(amounts, losses)
