"""Scores in a run directory that other code has made than the metric holds now."""

from __future__ import annotations

from cotbal.errors import CotbalError
from cotbal.report.contents import Contents
from cotbal.scores.measure import is_stale


def stale_scores(contents: Contents) -> list[str]:
    """A warning where scores have to be made again; a metric that cannot be loaded is left out."""
    sources = {
        (name, metric.source)
        for run in contents.runs
        for scores in run.scores.values()
        for name, metric in scores.metrics.items()
    }
    names = sorted({name for name, source in sources if _is_stale(name, source)})
    if not names:
        return []
    return [
        f"the code of {', '.join(names)} has changed since answers were scored with it: "
        f"`cotbal rescore {contents.directory}` makes these scores again"
    ]


def _is_stale(name: str, source: str | None) -> bool:
    try:
        return is_stale(name, source)
    except (CotbalError, ImportError):
        return False
