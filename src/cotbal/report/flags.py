"""What a reader must know before trusting the numbers: flags as a short table, and warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotbal.balance import Balance
from cotbal.balance.guards import SPOILS_SCORE, Flag
from cotbal.errors import CotbalError
from cotbal.report.tables import Table
from cotbal.scores.measure import is_stale

if TYPE_CHECKING:
    from cotbal.report.contents import Contents

WHAT = {
    "no_gain": "its full data did not raise its score",
    "unclear_gain": "its gain from full data may be 0",
    "saturated": "every probe scores near the maximum",
    "constant_answer": "its probe may be no better than one constant answer",
    "no_score": "its probe may score 0 or less",
}
NO_CREDIT = "no unit gets credit for helping it; its inward part is 1"


def flag_table(balance: Balance) -> Table:
    """One row per flag; `Flag.message` has the runs and their scores."""
    rows = [(flag.task, _what(flag), _consequence(flag)) for flag in balance.flags]
    header = ("task", "what was found", "consequence")
    return Table("Flags, and what follows from each", header, tuple(rows), words=frozenset({1, 2}))


def _what(flag: Flag) -> str:
    return WHAT.get(flag.kind, flag.kind.replace("_", " "))


def _consequence(flag: Flag) -> str:
    return f"{NO_CREDIT}; so is its intra part" if flag.kind in SPOILS_SCORE else NO_CREDIT


def stale_scores(contents: Contents) -> list[str]:
    """A warning where scores must be recomputed; metrics that cannot be loaded are left out."""
    sources = set()
    for run in contents.runs:
        for scores in run.scores.values():
            sources |= {(name, metric.source) for name, metric in scores.metrics.items()}
    names = sorted({name for name, source in sources if _is_stale(name, source)})
    if not names:
        return []
    return [
        f"the code of {', '.join(names)} has changed since answers were scored with it:"
        f" `cotbal rescore {contents.directory.name}` recomputes these scores"
    ]


def _is_stale(name: str, source: str | None) -> bool:
    try:
        return is_stale(name, source)
    except (CotbalError, ImportError):
        return False
