"""The algorithm of the paper, step by step: scores, contribution and difficulty, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from cotbal.balance.guards import guard
from cotbal.balance.measures import Measures, measure
from cotbal.balance.needs import Need, needs
from cotbal.balance.probes import Probes, read_probes
from cotbal.balance.result import Balance
from cotbal.balance.settings import Settings
from cotbal.balance.uncertainty import SOURCES
from cotbal.balance.weights import smallest_temperature
from cotbal.errors import ScoresError
from cotbal.scores.interval import percentile_bounds
from cotbal.scores.matrix import ScoreMatrix


def balance(
    scores: ScoreMatrix | Sequence[ScoreMatrix],
    units: Mapping[str, str] | None = None,
    settings: Settings | None = None,
) -> Balance:
    """Weights of the units from the scores of the probes, Eq. 3-11 (15-17 by the settings).

    Args:
        scores: the score matrix, or one per training seed; rows that the form does not read are
            ignored.
        units: task -> unit; by default every task is its own unit.

    Raises:
        ScoresError: a row or a score is missing, or the matrices of two seeds do not fit together.
    """
    settings = settings or Settings()
    probes = read_probes(scores, units, settings.form, settings.difficulty)
    draws = probes.resample(settings.bootstrap, settings.seed)
    flags, probes = guard(probes, draws)
    measures, drawn = _measure(probes, draws, settings)  # Eq. 3, 4, 6, 9
    temperature = _temperature(measures, settings)
    parts = measures.parts(temperature)  # Eq. 5, 7, 8, 10, 11
    return Balance(
        units=probes.units,
        form=probes.form,
        difficulty_form="simple" if probes.form == "simple" else settings.difficulty,
        temperature=temperature,
        seeds=len(probes.matrices),
        shrunk=settings.shrink,
        contribution=measures.contribution,
        outward=measures.outward,
        inward=measures.inward,
        difficulty=measures.difficulty,
        parts=parts,
        intervals=None if drawn is None else _bounds(vars(drawn)),
        part_intervals=None if drawn is None else _bounds(drawn.parts(temperature)),
        samples={task: samples.values.shape[1] for task, samples in probes.mean.samples.items()},
        needs=() if drawn is None else _needs(probes, settings, temperature, parts["all"]),
        flags=flags,
        warnings=_warnings(probes),
    )


def weight_draws(
    scores: ScoreMatrix | Sequence[ScoreMatrix],
    units: Mapping[str, str] | None = None,
    settings: Settings | None = None,
) -> Float[np.ndarray, "draw unit"]:
    """The weights of `balance` in the first row, then those of every resample.

    Two tables of scores on the same validation samples are resampled alike, so that their draws are
    pairs: `agreement` compares them.

    Raises:
        ScoresError: as in `balance`, or nothing is known about the noise of the scores.
    """
    settings = settings or Settings()
    probes = read_probes(scores, units, settings.form, settings.difficulty)
    draws = probes.resample(settings.bootstrap, settings.seed)
    if draws is None:
        raise ScoresError(
            "expected scores with their samples, or of several seeds; a bare table has no draws"
        )
    _, probes = guard(probes, draws)
    measures, drawn = _measure(probes, draws, settings)
    assert drawn is not None
    temperature = _temperature(measures, settings)
    estimate = measures.parts(temperature)["all"]
    return np.concatenate([estimate[None], drawn.parts(temperature)["all"]])


def _measure(
    probes: Probes, draws: Float[np.ndarray, "resample run task"] | None, settings: Settings
) -> tuple[Measures, Measures | None]:
    """The measures of the mean scores, and those of every resample."""
    measures = measure(probes.mean.values, probes)
    drawn = None if draws is None else measure(draws, probes)
    if not settings.shrink:
        return measures, drawn
    if drawn is None:
        raise ScoresError(
            "shrinking contributions needs to know their noise: scores with samples, or several"
            " seeds"
        )
    variances = np.var(drawn.contribution, axis=0)
    return measures.shrunk(variances), drawn.shrunk(variances)


def _temperature(measures: Measures, settings: Settings) -> float:
    if settings.temperature == "auto":
        return smallest_temperature(lambda tau: measures.parts(tau)["all"], *settings.weight_range)
    return float(settings.temperature)


def _bounds(draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: percentile_bounds(values) for name, values in draws.items()}


def _needs(
    probes: Probes, settings: Settings, temperature: float, weights: Float[np.ndarray, " unit"]
) -> tuple[Need, ...]:
    """What each weight would need, from its standard error by either source of noise alone."""
    errors: dict[str, Float[np.ndarray, " unit"] | None] = dict.fromkeys(SOURCES)
    for source in SOURCES if len(probes.matrices) > 1 else ("samples",):
        draws = probes.resample(settings.bootstrap, settings.seed, (source,))
        _, drawn = _measure(probes, draws, settings)
        assert drawn is not None
        low, high = np.percentile(drawn.parts(temperature)["all"], (16, 84), axis=0)
        # Half the middle two thirds: a standard error that a few extreme ratios do not inflate.
        errors[source] = np.asarray((high - low) / 2)
    assert errors["samples"] is not None
    return needs(probes.units, weights, errors["samples"], errors["seeds"], len(probes.matrices))


def _warnings(probes: Probes) -> tuple[str, ...]:
    samples = probes.mean.samples
    warnings = []
    if len(probes.units) == 1:
        warnings.append(
            f"{probes.units[0]} is the only unit: there is nothing to balance, and its weight is 1"
        )
    if not samples and len(probes.matrices) == 1:
        warnings.append(
            "the table holds scores without their samples: there are no intervals, and a gain that"
            " is only noise cannot be detected"
        )
    elif not samples:
        warnings.append(
            "the tables hold scores without their samples: intervals hold the noise of the seeds"
            " alone"
        )
    unknown = [task for task, column in samples.items() if column.constant is None]
    if unknown:
        warnings.append(
            f"{', '.join(unknown)}: the score of a constant answer is not known (a judge or another"
            " program gave the scores), so nothing checks whether these probes learnt more than one"
            " answer to everything"
        )
    return tuple(warnings)
