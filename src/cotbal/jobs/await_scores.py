"""Runs whose scores another command gives: which of them still wait for it."""

from __future__ import annotations

from collections.abc import Sequence

from cotbal.errors import RunError
from cotbal.jobs.plan import Planned, Prepared
from cotbal.jobs.scoring import awaited
from cotbal.scores.measure import given_by


def need_scores(prepared: Prepared, planned: Sequence[Planned]) -> None:
    """Stop where finished runs wait for a judge.

    Raises:
        RunError: scores are missing; it names the runs, and the command to run.
    """
    mixture = prepared.recipe.mixture
    waiting: dict[str, str] = {}
    for p in planned:
        missing: list[str] = []
        for name in p.run.validation:
            missing += awaited(p.paths, name, "validation", (mixture[name].metric,))
        for name in p.run.test:
            for split in mixture[name].test:
                missing += awaited(p.paths, name, split, mixture[name].test_metrics)
        if missing:
            waiting[p.label] = missing[0]
    if waiting:
        command = given_by(next(iter(waiting.values())))
        raise RunError(
            f"{prepared.root.root}: the runs are done and wait for scores ({', '.join(waiting)}):"
            f" run `{command} {prepared.root.root}`, then rerun the command to resume",
            "missing-scores",
        )
