"""Measures of every resample, computed one receiver at a time."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from cotbal.balance import Settings, balance
from cotbal.balance.agreement import rank_correlation
from cotbal.balance.draws import TAIL, measure_draws
from cotbal.balance.guards import guard
from cotbal.balance.measures import measure
from cotbal.balance.probes import Probes, read_probes
from cotbal.balance.shrinkage import shrink
from cotbal.scores.interval import percentile_bounds
from cotbal.scores.matrix import Samples, ScoreMatrix, matrix_of_samples
from helpers.balance_cases import replicated_minis, right_or_wrong

RESAMPLES = 150
GAINLESS = 3


def scores(tasks: int, samples: int = 60, size: int = 1) -> ScoreMatrix:
    """Every task but one gains from the data of its unit, which has `size` tasks."""
    columns = {}
    for j in range(tasks):
        levels = np.full(tasks // size + 1, 0.35)
        levels[0] = 0.3
        levels[j // size + 1] = 0.2 if j == GAINLESS else 0.75
        columns[f"t{j}"] = right_or_wrong(levels.tolist(), samples, j, common=0.5)
    runs = ("mini", *(f"full:t{j}" for j in range(0, tasks, size)))
    known = {task: Samples(values, np.arange(samples), 1.0) for task, values in columns.items()}
    return matrix_of_samples(runs, known)


def guarded(matrix: ScoreMatrix, size: int) -> tuple[Probes, np.ndarray]:
    """The probes, and the score matrices of all resamples."""
    units = {task: f"t{number // size * size}" for number, task in enumerate(matrix.tasks)}
    probes = read_probes(matrix, units)
    draws = probes.resample(RESAMPLES, 0)
    assert draws is not None
    rows = range(len(probes.scores.runs))
    matrices = np.stack([draws(task, rows) for task in range(len(matrix.tasks))], axis=-1)
    return guard(probes, draws)[1], matrices


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("is_shrunk", [False, True])
def test_measures_are_those_of_whole_matrices(size: int, is_shrunk: bool) -> None:
    probes, matrices = guarded(replicated_minis(scores(9, size=size)), size)
    whole = measure(matrices, probes)
    tails = np.percentile(whole.contribution, (TAIL, 100 - TAIL), axis=0)
    contributions = np.clip(whole.contribution, *tails)
    if is_shrunk:
        variances = contributions.var(axis=0)
        contributions = np.stack([shrink(one, variances) for one in contributions])
    settings = Settings(bootstrap=RESAMPLES, shrink=is_shrunk)
    _, drawn = measure_draws(probes, probes.resample(RESAMPLES, 0), settings)
    assert drawn is not None
    expected = percentile_bounds(contributions)
    np.testing.assert_allclose(drawn.contribution_bounds, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(drawn.difficulty, whole.difficulty)
    others = np.where(np.eye(len(probes.units), dtype=bool), np.nan, contributions)
    missing = np.isnan(others).all(axis=(0, 1))
    assert missing.any() == (size == 1)
    np.testing.assert_allclose(drawn.inward[:, ~missing], np.nanmean(others[..., ~missing], axis=1))
    assert np.isnan(drawn.inward[:, missing]).all()
    if not missing.any():
        np.testing.assert_allclose(drawn.outward, np.nanmean(others, axis=2))


def test_draws_of_some_rows_are_those_of_all() -> None:
    probes = read_probes(replicated_minis(scores(5)))
    draws = probes.resample(RESAMPLES, 0)
    assert draws is not None
    whole = draws(1, range(6))
    np.testing.assert_allclose(draws(1, [4, 0, 4]), whole[:, [4, 0, 4]], rtol=1e-12)


def peak(work: object, *arguments: object, **more: object) -> int:
    """Bytes that a call takes at most beyond what is there before."""
    tracemalloc.start()
    try:
        work(*arguments, **more)  # type: ignore[operator]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("tasks", "is_shrunk"), [pytest.param(200, False, marks=pytest.mark.extended), (70, True)]
)
def test_weights_of_many_tasks_take_no_matrix_per_resample(tasks: int, is_shrunk: bool) -> None:
    settings = Settings(bootstrap=100, shrink=is_shrunk)
    matrices = 100 * tasks**2 * 8  # bytes of the contributions of all resamples
    assert peak(balance, scores(tasks, samples=5), settings=settings) < 0.6 * matrices


def test_neither_does_an_agreement() -> None:
    values = np.random.default_rng(0).uniform(size=(2, 100, 200))
    assert peak(rank_correlation, *values) < 0.3 * 100 * 200**2
