"""Forecasts of half-widths, against what the forecast trainings and samples then give."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from cotbal.balance import Settings, balance, planning
from cotbal.balance.planning import Outlook, Step, expected_half_width, outlooks
from cotbal.balance.probes import Probes, replicate_name
from cotbal.balance.uncertainty import Draws
from cotbal.scores.matrix import Samples, ScoreMatrix, matrix_of_samples

TASKS = ("a", "b", "c", "d")
RUNS = ("mini", *(f"full:{task}" for task in TASKS))
SETTINGS = Settings(bootstrap=500)
NOISE = 0.04
STUDIES = 6


def level(run: str, task: str) -> float:
    """True score of a run on a task."""
    if run == f"full:{task}":
        return 0.75
    return 0.3 if run == "mini" else 0.3 + 0.03 * ((RUNS.index(run) + 2 * TASKS.index(task)) % 5)


def scores(
    random: np.random.Generator, seeds: int = 1, replicates: int = 1, samples: int = 300
) -> list[ScoreMatrix]:
    """Tables of right or wrong answers, one per seed, as models with noisy scores give them."""
    luck = {task: random.uniform(size=samples) for task in TASKS}
    rows = [*RUNS, *(replicate_name("mini", n) for n in range(2, replicates + 1))]

    def column(task: str) -> Samples:
        levels = [level(row.partition("#")[0], task) + NOISE * random.normal() for row in rows]
        own_luck = [random.uniform(size=samples) < 0.4 for _ in rows]
        answers = [
            np.where(mine, random.uniform(size=samples), luck[task]) < right
            for mine, right in zip(own_luck, levels, strict=True)
        ]
        return Samples(np.array(answers, dtype=float), np.arange(samples), 1.0)

    return [matrix_of_samples(rows, {task: column(task) for task in TASKS}) for _ in range(seeds)]


def median_width(tables: list[ScoreMatrix]) -> float:
    result = balance(tables, settings=SETTINGS)
    return float(np.nanmedian([result.weight(unit).half_width for unit in result.units]))


@cache
def forecasts() -> list[dict[Step, Outlook]]:
    """Of studies that have a mini and two replicates."""
    randoms = [np.random.default_rng([1, number]) for number in range(STUDIES)]
    studies = [scores(random, replicates=3) for random in randoms]
    return [
        {outlook.step: outlook for outlook in outlooks(study, settings=SETTINGS)}
        for study in studies
    ]


@pytest.mark.parametrize(
    ("step", "after"),
    [
        ("now", {"replicates": 3}),
        ("replicate", {"replicates": 4}),
        ("seed", {"seeds": 2}),
        ("samples", {"replicates": 3, "samples": 600}),
    ],
)
def test_a_forecast_comes_true(step: Step, after: dict[str, int]) -> None:
    predicted = [by_step[step] for by_step in forecasts()]
    assert not any(outlook.assumed_noise for outlook in predicted)
    randoms = [np.random.default_rng([2, number]) for number in range(STUDIES)]
    given = [median_width(scores(random, **after)) for random in randoms]
    forecast = np.median([outlook.median for outlook in predicted])
    assert forecast == pytest.approx(np.median(given), rel=0.2)


def test_more_samples_narrow_the_weights() -> None:
    """The forecasts of a study scale the same draws, so this is no matter of luck."""
    assert all(by_step["samples"].median < by_step["now"].median for by_step in forecasts())


def test_a_second_set_takes_the_place_of_replicates() -> None:
    random = np.random.default_rng(3)
    (first,) = scores(random, replicates=3)
    (second,) = outlooks([first.rows(RUNS), *scores(random)], settings=SETTINGS)[:1]
    by_step = {outlook.step: outlook for outlook in outlooks([first], settings=SETTINGS)}
    assert by_step["seed"].median == pytest.approx(second.median, rel=0.3)
    assert by_step["seed"].median < by_step["replicate"].median


def test_without_a_second_training_the_noise_of_pocket_is_assumed() -> None:
    predicted = outlooks(scores(np.random.default_rng(4)), settings=SETTINGS)
    assert all(outlook.assumed_noise for outlook in predicted)
    assert predicted[0].median > median_width(scores(np.random.default_rng(4)))


def test_more_evidence_is_expected_to_narrow_the_weights() -> None:
    few, many = dict.fromkeys(TASKS, 200), dict.fromkeys(TASKS, 3200)
    settings = Settings(bootstrap=2000)
    widths = [
        expected_half_width(few, settings=settings, replicates=2),
        expected_half_width(many, settings=settings, replicates=2),
        expected_half_width(many, settings=settings, seeds=2),
        expected_half_width(many, settings=settings, seeds=4),
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 1.5 * widths[-1]


def test_a_weight_is_decided_by_an_interval_that_excludes_one() -> None:
    (now, *_) = outlooks(scores(np.random.default_rng(5), replicates=3), settings=SETTINGS)
    width = now.half_widths["a"]
    weights = {**dict.fromkeys(TASKS, 1.0), "a": 1 + 1.01 * width, "b": 1 + 0.99 * width}
    assert "a" in now.decides(weights)
    assert set(now.decides(weights)) <= {"a", "b"}


def test_the_forecast_of_a_plan_takes_no_more_for_500_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Draws of all scores grow with the square of the tasks: 2 GB for 500."""
    drawn: list[int] = []
    forecast = planning._half_widths

    def keep(probes: Probes, draws: Draws, settings: Settings) -> np.ndarray:
        drawn.append(probes.scores.values.size)
        return forecast(probes, draws, settings)

    monkeypatch.setattr(planning, "_half_widths", keep)
    many = {f"task_{number}": 50 + number % 100 for number in range(500)}
    some = dict(list(many.items())[: planning.MOST_TASKS])
    widths = [expected_half_width(samples, settings=SETTINGS) for samples in (some, many)]
    assert drawn[0] == drawn[1] < 60 * 62
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
