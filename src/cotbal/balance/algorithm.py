"""The algorithm of the paper, step by step: scores, contribution and difficulty, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cotbal.balance.draws import measure_draws
from cotbal.balance.guards import guard
from cotbal.balance.measurable import identified_shares, is_measurable
from cotbal.balance.measures import Measures
from cotbal.balance.needs import Need, needs
from cotbal.balance.probes import Probes, read_probes
from cotbal.balance.result import Balance, Deviation
from cotbal.balance.settings import Settings
from cotbal.balance.weights import Parts, smallest_temperature
from cotbal.errors import ScoresError
from cotbal.scores.interval import HALF_WIDTH, Noise, percentile_bounds
from cotbal.scores.matrix import ScoreMatrix, in_one_order


def balance(
    scores: ScoreMatrix | Sequence[ScoreMatrix],
    units: Mapping[str, str] | None = None,
    settings: Settings | None = None,
) -> Balance:
    """Weights of the units from the scores of the probes, Eq. 3-11 (15-17 by the settings).

    Args:
        scores: the score matrix, or one per training seed; replicates of a run are further rows,
            such as `mini#2`; other rows that the form does not read are ignored.
        units: task -> unit; by default every task is its own unit.

    Raises:
        ScoresError: a row or a score is missing, or the matrices of two seeds do not fit together.
    """
    settings = settings or Settings()
    probes = read_probes(scores, units, settings.form, settings.difficulty)
    draws = probes.resample(settings.bootstrap, settings.seed)
    flags, probes = guard(probes, draws)
    measures, drawn = measure_draws(probes, draws, settings)  # Eq. 3, 4, 6, 9
    temperature = temperature_of(measures, settings)
    parts = measures.parts(temperature)  # Eq. 5, 7, 8, 10, 11
    part_intervals = None if drawn is None else _bounds(drawn.parts(temperature))
    measurable = is_measurable(measures, settings.equal_below)
    if not measurable:
        parts, part_intervals = _equal(parts, part_intervals)
    return Balance(
        units=probes.units,
        form=probes.form,
        difficulty_form="simple" if probes.form == "simple" else settings.difficulty,
        temperature=temperature,
        seeds=int(probes.trainings[probes.givers].min()),
        replicates=int(probes.trainings.max()),
        shrunk=settings.shrink,
        noise=probes.known_noise,
        training_noise=_training_noise(probes),
        identified=identified_shares(measures),
        measurable=measurable,
        contribution=measures.contribution,
        outward=measures.outward,
        inward=measures.inward,
        difficulty=measures.difficulty,
        parts=parts,
        intervals=None if drawn is None else drawn.bounds(),
        part_intervals=part_intervals,
        samples={task: column.values.shape[1] for task, column in probes.scores.samples.items()},
        needs=_needs(probes, settings, temperature, parts["all"]) if measurable else (),
        flags=flags,
        warnings=(*_warnings(probes), *_copies(scores)),
    )


@dataclass(frozen=True)
class WeightDraws:
    """Weights and where else they could be.

    Attributes:
        values: the weights in the first row, then those of every resample.
        noise: what makes the draws differ.
    """

    values: Float[np.ndarray, "draw unit"]
    noise: tuple[Noise, ...]


def weight_draws(
    scores: ScoreMatrix | Sequence[ScoreMatrix],
    units: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    training_stream: int = 0,
) -> WeightDraws:
    """The weights of `balance` and their draws.

    Two tables of scores on the same validation samples are resampled alike, so that their draws are
    pairs: `agreement` compares them.

    Args:
        training_stream: tables of different trainings take different numbers, since their noise of
            training has nothing in common.

    Raises:
        ScoresError: as in `balance`, or nothing is known about the noise of the scores.
    """
    settings = settings or Settings()
    probes = read_probes(scores, units, settings.form, settings.difficulty)
    draws = probes.resample(settings.bootstrap, settings.seed, training_stream=training_stream)
    if draws is None:
        raise ScoresError(
            "expected scores with their samples, or of several trainings; a bare table has no"
            " draws",
            "no-samples",
        )
    _, probes = guard(probes, draws)
    measures, drawn = measure_draws(probes, draws, settings)
    assert drawn is not None
    temperature = temperature_of(measures, settings)
    estimate = measures.parts(temperature)["all"]
    values = np.concatenate([estimate[None], drawn.parts(temperature)["all"]])
    return WeightDraws(values, probes.known_noise)


def temperature_of(measures: Measures, settings: Settings) -> float:
    """That of the settings, or the smallest one that keeps the weights in their range."""
    if settings.temperature == "auto":
        return smallest_temperature(lambda tau: measures.parts(tau)["all"], *settings.weight_range)
    return float(settings.temperature)


def _bounds(draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: percentile_bounds(values) for name, values in draws.items()}


def _equal(
    parts: Parts, intervals: Mapping[str, np.ndarray] | None
) -> tuple[Parts, dict[str, np.ndarray] | None]:
    """Weights of 1, which are a decision and no estimate, so they have no interval."""
    ones = np.ones_like(parts["all"])
    if intervals is None:
        return {**parts, "all": ones}, None
    unknown = np.full_like(intervals["all"], np.nan)
    return {**parts, "all": ones}, {**intervals, "all": unknown}


def _training_noise(probes: Probes) -> dict[str, Deviation]:
    if probes.noise is None:
        return {}
    rows = zip(probes.scores.tasks, probes.noise.deviation, probes.noise.freedom, strict=True)
    return {task: Deviation(float(value), float(freedom)) for task, value, freedom in rows}


def _needs(
    probes: Probes, settings: Settings, temperature: float, weights: Float[np.ndarray, " unit"]
) -> tuple[Need, ...]:
    """What each weight would need, from its error toward 1 by either source of noise alone.

    An interval of a weight may be skewed, and only its side toward 1 decides whether it contains 1.
    """
    if "training" not in probes.known_noise:
        return ()
    errors: dict[Noise, Float[np.ndarray, " unit"]] = {}
    for source in probes.known_noise:
        draws = probes.resample(settings.bootstrap, settings.seed, (source,))
        _, drawn = measure_draws(probes, draws, settings)
        assert drawn is not None
        bounds = percentile_bounds(drawn.parts(temperature)["all"])
        low, high = bounds[:, 0], bounds[:, 1]
        toward_one = np.where(weights < 1, high - weights, weights - low)
        errors[source] = toward_one / HALF_WIDTH
    sets = int(probes.trainings[probes.givers].min())
    return needs(probes.units, weights, errors, sets)


def _copies(scores: ScoreMatrix | Sequence[ScoreMatrix]) -> tuple[str, ...]:
    """A warning where two seeds have the same table, since copies hide the noise of training."""
    if isinstance(scores, ScoreMatrix):
        return ()
    tables = [matrix.to_csv() for matrix in in_one_order(scores)]
    if len(set(tables)) == len(tables):
        return ()
    return (
        "two tables hold the same scores: if they are one training, the intervals are too narrow;"
        " give every training seed once",
    )


def _warnings(probes: Probes) -> tuple[str, ...]:
    samples = probes.scores.samples
    warnings = []
    if len(probes.units) == 1:
        warnings.append(
            f"{probes.units[0]} is the only unit: there is nothing to balance, and its weight is 1"
        )
    if not probes.known_noise:
        warnings.append(
            "the table holds scores without their samples: there are no intervals, and a gain that"
            " is only noise cannot be detected"
        )
    elif not samples:
        warnings.append(
            "the tables hold scores without their samples: intervals hold the noise of training"
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
