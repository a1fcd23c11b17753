"""Runs in two stages: first those that give weights, then final models that need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cotbal.jobs.execute import Options
from cotbal.jobs.plan import Planned, Prepared
from cotbal.jobs.response import do_with_trials
from cotbal.jobs.runs import do
from cotbal.jobs.steering import with_weights
from cotbal.weightings import takes_weights


def do_first(prepared: Prepared, options: Options) -> tuple[Planned, ...]:
    """Run everything that weights come from, and return the final models that are left.

    Models without weights of their own share the workers with probes and trials. Where all of these
    are done, they are left, to share the workers with the models that take weights.
    """
    planned = prepared.plan.runs
    sources = [p for p in planned if p.kind != "final"]
    finals = tuple(p for p in planned if p.kind == "final")
    late = tuple(p for p in finals if takes_weights(p.run.weighting))
    if late and all(p.paths.done for p in sources):
        do_with_trials(prepared, sources, options)
        return finals
    early = [p for p in planned if p not in late]
    do_with_trials(prepared, early, replace(options, later=len(late)))
    return late


def do_rest(
    prepared: Prepared,
    left: Sequence[Planned],
    options: Options,
    weights: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Train what `do_first` left, if anything.

    Args:
        weights: as in `cotbal.jobs.runs.do`; those of steered models are added.
    """
    if not left:
        return
    prepared, steered = with_weights(prepared)
    names = {(p.run.name, p.run.seed) for p in left}
    ready = [p for p in prepared.plan.runs if (p.run.name, p.run.seed) in names]
    do(prepared, ready, options, {**(weights or {}), **steered})
