"""What more evidence would buy: expected half-widths of the weights, before anything is spent and
for the scores at hand.

Every estimate redraws the score matrix with the noise that it would have then, and recomputes the
weights (Eq. 3-11). It is a forecast: the scores at hand are noisy themselves.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from cotbal.balance.algorithm import temperature_of
from cotbal.balance.draws import measure_draws
from cotbal.balance.guards import guard
from cotbal.balance.noise import PRIOR_FREEDOM, TrainingNoise, typical_noise
from cotbal.balance.probes import BASE, Form, FormRuns, Probes, form_runs, read_probes
from cotbal.balance.settings import Settings
from cotbal.balance.uncertainty import Draws, draw_samples
from cotbal.scores.interval import percentile_bounds
from cotbal.scores.matrix import ScoreMatrix

Step = Literal["now", "replicate", "seed", "samples", "mini"]

# Expected scores before anything is known, as shares of the maximum, and the share of samples whose
# luck is one for all runs: about those of `pocket`.
MINI_SCORE, OWN_SCORE, CROSS_SCORE, BASE_SCORE = 0.35, 0.65, 0.42, 0.2
COMMON_LUCK = 0.6
MOST_TASKS = 60  # of a plan's forecast; memory grows with their square, the median hardly changes


@dataclass(frozen=True)
class Outlook:
    """Half-widths of the 95 % intervals of the weights after a step.

    Attributes:
        step: `now` (nothing more), `replicate` (one more training of the mini), `seed` (one more
            whole set of probes), `samples` (twice the validation samples) or `mini` (minis of twice
            the size).
        half_widths: unit -> half-width; NaN where there is no interval.
        assumed_noise: whether the noise of training was taken from `pocket`, because no run was
            trained twice.
    """

    step: Step
    half_widths: Mapping[str, float]
    assumed_noise: bool

    @property
    def median(self) -> float:
        """Median half-width over the units."""
        return float(np.nanmedian(list(self.half_widths.values())))

    def decides(self, weights: Mapping[str, float]) -> tuple[str, ...]:
        """The units whose weight would differ significantly from 1, if it is where it seems to
        be.
        """
        decided = []
        for unit, width in self.half_widths.items():
            if abs(weights[unit] - 1) > width:
                decided.append(unit)
        return tuple(decided)


def expected_half_width(
    samples: Mapping[str, int],
    units: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    replicates: int = 1,
    seeds: int = 1,
) -> float:
    """Median half-width of a weight that a plan can be expected to give, with the noise and the
    gains of `pocket`.

    Args:
        samples: task -> number of validation samples.
        units: task -> unit; by default every task is its own unit.
        replicates: trainings of the mini, with one seed.
        seeds: whole sets of probes.
    """
    settings = settings or Settings()
    samples = _representative(samples)
    tasks = tuple(samples)
    of_task = {task: (units or {}).get(task, task) for task in tasks}
    form: Form = settings.form or "standard"
    runs = form_runs(form, settings.difficulty, tuple(dict.fromkeys(of_task.values())))
    scores = ScoreMatrix(runs.names, tasks, _expected_scores(runs, of_task))
    probes = read_probes(scores, of_task, form, settings.difficulty)
    trainings = np.full(len(runs.names), seeds)
    repeated = _repeated(probes, form)
    trainings[repeated] = max(seeds, replicates)
    freedom = np.full(len(tasks), float((trainings - 1).sum()))
    if form == "simple":
        freedom = np.full(len(tasks), float(trainings[repeated].max() - 1))
    noise = typical_noise(np.full(len(tasks), OWN_SCORE), freedom)
    probes = replace(probes, trainings=trainings, noise=noise)
    generator = np.random.default_rng([settings.seed, zlib.crc32(b"expected")])
    errors = _expected_sampling(scores, np.array(list(samples.values())), settings, generator)
    widths = _half_widths(probes, lambda task, rows: errors[:, rows, task], settings)
    return float(np.nanmedian(widths))


def _representative(samples: Mapping[str, int]) -> Mapping[str, int]:
    """Of many tasks some with few, some with many samples."""
    if len(samples) <= MOST_TASKS:
        return samples
    ascending = sorted(samples, key=samples.__getitem__)
    positions = np.linspace(0, len(ascending) - 1, MOST_TASKS).round().astype(int)
    chosen = [ascending[position] for position in positions]
    return {task: samples[task] for task in chosen}


def outlooks(
    scores: ScoreMatrix | Sequence[ScoreMatrix],
    units: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    large_over_mini: float = 32.0,
) -> tuple[Outlook, ...]:
    """What the half-widths of the weights are now, and would be after each possible step.

    Args:
        scores: as in `cotbal.balance.balance`, with their samples.
        large_over_mini: how many times the records of a mini the large portion has. A larger mini
            scores higher, so gains shrink: along a straight line in the logarithm of the records.
    """
    settings = settings or Settings()
    probes = read_probes(scores, units, settings.form, settings.difficulty)
    assumed = probes.noise is None
    if assumed:
        freedom = np.zeros(len(probes.scale))
        probes = replace(probes, noise=typical_noise(probes.scale, freedom))
    scores = probes.scores
    repeated = _repeated(probes, probes.form)

    def sampling(task: int, rows: Sequence[int]) -> Float[np.ndarray, "resample row"]:
        drawn = draw_samples(scores, task, rows, settings.bootstrap, settings.seed)
        return drawn - scores.values[list(rows), task]

    def sampling_of_twice_as_many(
        task: int, rows: Sequence[int]
    ) -> Float[np.ndarray, "resample row"]:
        return sampling(task, rows) / np.sqrt(2)

    replicated = _trained_again(probes, repeated)
    larger = _larger_mini(probes, large_over_mini)
    steps: dict[Step, tuple[Probes, Draws]] = {
        "now": (probes, sampling),
        "replicate": (replicated, sampling),
        "seed": (_another_set(probes), sampling),
        "samples": (probes, sampling_of_twice_as_many),
        "mini": (larger, sampling),
    }
    outcomes = []
    for step, (changed, errors) in steps.items():
        widths = _half_widths(changed, errors, settings).tolist()
        by_unit = dict(zip(probes.units, widths, strict=True))
        outcomes.append(Outlook(step, by_unit, assumed))
    return tuple(outcomes)


def _half_widths(probes: Probes, sampling: Draws, settings: Settings) -> Float[np.ndarray, " unit"]:
    """Of the weights, from draws of the sampling errors; those of training are added here."""
    values = probes.scores.values
    seed = (settings.seed, 0)

    def draws(task: int, rows: Sequence[int]) -> Float[np.ndarray, "resample row"]:
        drawn = values[list(rows), task] + sampling(task, rows)
        return drawn + probes.draw_training(task, rows, settings.bootstrap, seed)

    _, probes = guard(probes, draws)
    measures, drawn = measure_draws(probes, draws, settings)
    assert drawn is not None
    temperature = temperature_of(measures, settings)
    bounds = percentile_bounds(drawn.parts(temperature)["all"])
    low, high = bounds[:, 0], bounds[:, 1]
    return np.asarray((high - low) / 2)


def _repeated(probes: Probes, form: Form) -> Bool[np.ndarray, " run"]:
    """The rows that a replicate trains again: the mini, or in the simple form all minis alone."""
    chosen = np.zeros(len(probes.scores.runs), dtype=bool)
    chosen[probes.mini if form == "simple" else probes.baseline] = True
    return chosen


def _trained_again(probes: Probes, chosen: Bool[np.ndarray, " run"]) -> Probes:
    assert probes.noise is not None
    trained = chosen & (np.array(probes.scores.runs) != BASE)
    answered = ~np.isnan(probes.scores.values[trained])
    noise = TrainingNoise(probes.noise.deviation, probes.noise.freedom + answered.sum(axis=0))
    return replace(probes, trainings=probes.trainings + trained, noise=noise)


def _another_set(probes: Probes) -> Probes:
    """One more whole set; several sets take the place of replicates."""
    assert probes.noise is not None
    sets = int(probes.trainings[probes.givers].min()) + 1
    trained = np.array(probes.scores.runs) != BASE
    answered = ~np.isnan(probes.scores.values[trained])
    freedom = (sets - 1) * answered.sum(axis=0) + PRIOR_FREEDOM
    noise = TrainingNoise(probes.noise.deviation, freedom)
    return replace(probes, trainings=np.full(len(probes.trainings), sets), noise=noise)


def _larger_mini(probes: Probes, large_over_mini: float) -> Probes:
    """The scores as minis of twice the size would have given them."""
    values = probes.scores.values.copy()
    tasks = np.arange(values.shape[1])
    share = np.log(2) / np.log(max(large_over_mini, 2.0))
    owners = probes.scores.values[probes.full, tasks]
    rows = [*probes.mini, probes.baseline]
    for row in {int(row) for row in rows if probes.scores.runs[row] != BASE}:
        values[row] += share * (owners - values[row])
    return replace(probes, scores=replace(probes.scores, values=values))


def _expected_scores(runs: FormRuns, of_task: Mapping[str, str]) -> Float[np.ndarray, "run task"]:
    values = np.full((len(runs.names), len(of_task)), MINI_SCORE)
    rows = {run: row for row, run in enumerate(runs.names)}
    if BASE in rows:
        values[rows[BASE]] = BASE_SCORE
    for run in runs.giver.values():
        values[rows[run]] = CROSS_SCORE
    for column, unit in enumerate(of_task.values()):
        for run in (runs.full[unit], runs.giver[unit]):
            values[rows[run], column] = OWN_SCORE
    return values


def _expected_sampling(
    scores: ScoreMatrix,
    samples: np.ndarray,
    settings: Settings,
    generator: np.random.Generator,
) -> Float[np.ndarray, "resample run task"]:
    """Errors of means over so many right or wrong answers, correlated between runs."""
    shape = (settings.bootstrap, *scores.values.shape)
    luck = generator.standard_normal(shape)
    luck *= np.sqrt(1 - COMMON_LUCK)
    common = generator.standard_normal((shape[0], 1, shape[2]))
    luck += np.sqrt(COMMON_LUCK) * common
    luck *= np.sqrt(scores.values * (1 - scores.values) / samples)
    return luck
