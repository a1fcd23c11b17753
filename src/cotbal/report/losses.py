"""Loss curves: one panel a task, one line a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup

from cotbal.report.comparison import BASELINE, OURS
from cotbal.report.contents import Contents, RunContents
from cotbal.report.formatting import number
from cotbal.report.naming import method_label
from cotbal.report.svg import element, label, tick_text, ticks
from cotbal.runs import MINI, full_run

POINTS = 60  # a curve; more could not be told apart in a small panel
WIDTH, HEIGHT = 280, 170
Look = Literal["other", "baseline", "ours"]
LAYERS: tuple[Look, ...] = ("other", "baseline", "ours")  # from back to front
LEFT, RIGHT, TOP, BOTTOM = 38, 8, 26, 24


@dataclass(frozen=True)
class Curve:
    """Mean loss of one task during one run; `look` is a class of the style sheet, `points` are (epoch, loss)."""

    run: str
    look: Look
    points: tuple[tuple[float, float], ...]


def probe_panels(contents: Contents) -> list[Markup]:
    """The losses of every task during the probes."""
    return _panels(
        contents, contents.of_first_seed(contents.probes), lambda run, task: _probe_look(run, contents.unit_of(task))
    )


def final_panels(contents: Contents) -> list[Markup]:
    """The losses of every task during the final trainings."""
    return _panels(contents, contents.of_first_seed(contents.finals), lambda run, _: _final_look(run))


def _final_look(run: str) -> Look:
    return "ours" if run == OURS else "baseline" if run == BASELINE else "other"


def _probe_look(run: str, unit: str) -> Look:
    return "ours" if run == full_run(unit) else "baseline" if run == MINI else "other"


def _panels(contents: Contents, runs: Sequence[RunContents], look: Callable[[str, str], Look]) -> list[Markup]:
    panels = []
    for task in contents.tasks:
        curves = [Curve(method_label(run.name), look(run.name, task), curve(run.losses, task)) for run in runs]
        drawn = [found for found in curves if found.points]
        if drawn:
            # The runs that matter for this task last, so that they lie on top.
            panels.append(panel(task, sorted(drawn, key=lambda c: LAYERS.index(c.look))))
    return panels


def curve(rows: Sequence[Mapping[str, Any]], task: str) -> tuple[tuple[float, float], ...]:
    """(epoch, loss) of one task, averaged by tokens so that at most `POINTS` points are left."""
    seen = [row for row in rows if task in row.get("task_losses", {})]
    size = -(-len(seen) // POINTS)
    return tuple(_mean(seen[start : start + size], task) for start in range(0, len(seen), size or 1))


def _mean(rows: Sequence[Mapping[str, Any]], task: str) -> tuple[float, float]:
    tokens = [row["task_tokens"][task] for row in rows]
    loss = sum(row["task_losses"][task] * n for row, n in zip(rows, tokens, strict=True)) / sum(tokens)
    return sum(row["epoch"] for row in rows) / len(rows), loss


def panel(task: str, curves: Sequence[Curve]) -> Markup:
    """One small plot of loss against epoch."""
    last = max(x for c in curves for x, _ in c.points)
    losses = [y for c in curves for _, y in c.points]
    low, high = min(0.0, *losses), max(losses) * 1.05 or 1.0
    place = _Place(last or 1.0, low, high)
    lines = [
        element("polyline", element("title", _title(c)), points=place.points(c.points), class_=f"curve {c.look}")
        for c in curves
    ]
    return element(
        "svg", label(task, 34, x=LEFT, y=14, class_="strong"), *place.grid(), *lines,
        role="img", aria_label=f"Training loss of {task} during {len(curves)} runs; last losses: {_lasts(curves)}",
        viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="panel",
    )  # fmt: skip


def _title(found: Curve) -> str:
    return f"{found.run}: last loss {number(found.points[-1][1])}"


def _lasts(curves: Sequence[Curve]) -> str:
    return ", ".join(f"{c.run} {number(c.points[-1][1], 2)}" for c in curves)


@dataclass(frozen=True)
class _Place:
    """From (epoch, loss) to pixels."""

    last: float
    low: float
    high: float

    def x(self, epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * epoch / self.last

    def y(self, loss: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (loss - self.low) / (self.high - self.low)

    def points(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{self.x(epoch):.1f},{self.y(loss):.1f}" for epoch, loss in points)

    def grid(self) -> list[Markup]:
        rows = [
            element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=self.y(t), y2=self.y(t), class_="grid")
            + element("text", tick_text(t), x=LEFT - 6, y=self.y(t), class_="end middle muted small")
            for t in ticks(self.low, self.high, 4)
        ]
        columns = [
            element("text", tick_text(t), x=self.x(t), y=HEIGHT - 8, class_="center muted small")
            for t in ticks(0, self.last, 3)
        ]
        return rows + columns
