"""Section 3 of the paper: from the scores of the probes to one weight a unit, with intervals and a
guard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from cotbal.balance.case import Case, make_case
from cotbal.balance.contribution import inward, outward
from cotbal.balance.estimate import Estimate, Identified, estimate
from cotbal.balance.guards import Flag, guard
from cotbal.balance.needs import Need, needs
from cotbal.balance.result import Balance
from cotbal.balance.settings import Settings
from cotbal.balance.shrinkage import shrink
from cotbal.balance.uncertainty import interval
from cotbal.balance.weights import Parts, smallest_temperature, weight_parts
from cotbal.errors import ScoresError
from cotbal.scores.matrix import ScoreMatrix

__all__ = ["Balance", "Flag", "Need", "Settings", "balance", "weight_draws"]


def balance(
    scores: ScoreMatrix | Sequence[ScoreMatrix],
    units: Mapping[str, str] | None = None,
    settings: Settings | None = None,
) -> Balance:
    """Weights of the units from the scores of the probes, Eq. 3-11 (15-17 by the settings).

    Args:
        scores: the score matrix, or one a training seed; rows that the form does not read are
            ignored.
        units: task -> unit; by default every task is its own unit.

    Raises:
        ScoresError: a row or a score is missing, or the matrices of two seeds do not fit together.
    """
    case = make_case(scores, units, settings or Settings())
    resampled = case.resampled()
    flags, known = guard(case.mean, case.places, resampled)
    point, drawn = _estimates(case, resampled, known)
    tau = _temperature(point, case.settings)
    parts = _parts(point, tau)
    return Balance(
        units=case.units,
        form=case.form,
        difficulty_form="simple" if case.form == "simple" else case.settings.difficulty,
        temperature=tau,
        seeds=len(case.matrices),
        shrunk=case.settings.shrink,
        **vars(point),
        parts=parts,
        intervals=(
            None
            if drawn is None
            else {name: interval(values) for name, values in vars(drawn).items()}
        ),
        part_intervals=(
            None if drawn is None else {n: interval(v) for n, v in _parts(drawn, tau).items()}
        ),
        samples={task: samples.values.shape[1] for task, samples in case.mean.samples.items()},
        needs=() if drawn is None else _needs(case, known, tau, parts["all"]),
        flags=tuple(flags),
        warnings=_warnings(case),
    )


def weight_draws(
    scores: ScoreMatrix | Sequence[ScoreMatrix],
    units: Mapping[str, str] | None = None,
    settings: Settings | None = None,
) -> Float[np.ndarray, "draw unit"]:
    """The weights that `balance` finds, then those of every resample, for comparing two ways to
    find them.

    Two tables of scores on the same validation samples are resampled alike, so that their draws are
    pairs.

    Raises:
        ScoresError: as in `balance`, or nothing is known about the noise of the scores.
    """
    case = make_case(scores, units, settings or Settings())
    resampled = case.resampled()
    if resampled is None:
        raise ScoresError(
            "expected scores with their samples, or of several seeds; a bare table has no draws"
        )
    _, known = guard(case.mean, case.places, resampled)
    point, drawn = _estimates(case, resampled, known)
    assert drawn is not None
    tau = _temperature(point, case.settings)
    return np.concatenate([_parts(point, tau)["all"][None], _parts(drawn, tau)["all"]])


def _estimates(
    case: Case, resampled: Float[np.ndarray, "resample run task"] | None, known: Identified
) -> tuple[Estimate, Estimate | None]:
    """What the probes say, as seen and on every resample."""
    point = estimate(case.mean.values, case.places, known)
    drawn = None if resampled is None else estimate(resampled, case.places, known)
    if not case.settings.shrink:
        return point, drawn
    if drawn is None:
        raise ScoresError(
            "shrinking contributions needs to know their noise: scores with samples, or several"
            " seeds"
        )
    variances = np.var(drawn.contribution, axis=0)
    return _shrunk(point, variances), _shrunk(drawn, variances)


def _shrunk(found: Estimate, variances: Float[np.ndarray, "giver receiver"]) -> Estimate:
    pulled = shrink(found.contribution, variances)
    return replace(found, contribution=pulled, outward=outward(pulled), inward=inward(pulled))


def _temperature(point: Estimate, settings: Settings) -> float:
    if settings.temperature == "auto":
        return smallest_temperature(lambda tau: _parts(point, tau)["all"], *settings.weight_range)
    return float(settings.temperature)


def _parts(found: Estimate, temperature: float) -> Parts:
    return weight_parts(found.outward, found.inward, found.difficulty, temperature)


def _needs(
    case: Case, known: Identified, temperature: float, weights: Float[np.ndarray, " unit"]
) -> tuple[Need, ...]:
    def errors(source: str) -> Float[np.ndarray, " unit"]:
        _, drawn = _estimates(case, case.resampled((source,)), known)
        assert drawn is not None
        low, high = np.percentile(_parts(drawn, temperature)["all"], (16, 84), axis=0)
        # Half the middle two thirds: a standard error that a few extreme ratios cannot blow up.
        return np.asarray((high - low) / 2)

    of_seeds = errors("seeds") if len(case.matrices) > 1 else None
    return needs(case.units, weights, errors("samples"), of_seeds, len(case.matrices))


def _warnings(case: Case) -> tuple[str, ...]:
    warnings = []
    if len(case.units) == 1:
        warnings.append(
            f"{case.units[0]} is the only unit: there is nothing to balance, and its weight is 1"
        )
    if not case.mean.samples and len(case.matrices) == 1:
        warnings.append(
            "the table holds scores without their samples, so nothing here has an interval and a"
            " gain that is only noise cannot be told from a real one"
        )
    elif not case.mean.samples:
        warnings.append(
            "the tables hold scores without their samples: intervals hold the noise of the seeds"
            " alone"
        )
    blind = [task for task, samples in case.mean.samples.items() if samples.constant is None]
    if blind:
        warnings.append(
            f"{', '.join(blind)}: what one constant answer would score is not known (a judge or"
            " another program gave the scores), so nobody has looked whether these probes learnt"
            " more than one answer to everything"
        )
    return tuple(warnings)
