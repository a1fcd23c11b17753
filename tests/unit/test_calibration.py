"""The intervals hold: a fast version of benchmarks/calibration.py, on simulated mixtures whose
truth is known.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.scripts import BENCHMARKS, loaded

calibration = loaded(BENCHMARKS / "calibration.py")
REPLICATED, SAMPLES_ONLY = "mini x 3", "one seed, samples only"


@pytest.fixture(scope="module")
def tallies():  # type: ignore[no-untyped-def]
    """Four tasks, 25 mixtures: 100 weights."""
    mixture = calibration.Mixture(tasks=4, samples=300)
    return calibration.simulated(mixture, 25, designs=(SAMPLES_ONLY, REPLICATED))


@pytest.mark.extended
@pytest.mark.parametrize("quantity", ["weight", "outward", "inward", "difficulty", "contribution"])
def test_replicates_make_the_intervals_hold(tallies, quantity: str) -> None:  # type: ignore[no-untyped-def]
    """A coverage of .95 from 100 values that come in fours has a standard error of about .03."""
    assert tallies[REPLICATED, quantity].coverage >= 0.88
    assert tallies[SAMPLES_ONLY, quantity].coverage <= 0.80


@pytest.mark.extended
def test_equal_tasks_are_called_equal() -> None:
    mixture = calibration.Mixture(tasks=4, samples=300, alike=True)
    tallies = calibration.simulated(mixture, 20, seed=1, designs=(REPLICATED,))
    # At most .05, measured with a standard error of about .025; the benchmark has more mixtures.
    assert np.mean(tallies[REPLICATED, "weight"].claims) <= 0.08


@pytest.mark.extended
def test_paired_differences_hold_from_three_seeds_on() -> None:
    mixture = calibration.Mixture(tasks=4, samples=300)
    assert calibration.paired(mixture, 1, 30)[0] < 0.75
    assert 0.88 <= calibration.paired(mixture, 3, 80)[0] <= 1.0


def test_half_of_the_units_must_be_identified() -> None:
    """The default of `Settings.equal_below`: with fewer, equal weights are nearer to the truth."""
    rows = calibration.shares(calibration.Mixture(tasks=6), 60)
    assert rows[1].better < 0.4
    assert rows[5].better > 0.5
    assert rows[5].error < rows[1].error


def test_published_scores_are_read_as_they_were_measured(tmp_path: Path) -> None:
    sets = calibration.read_sets(BENCHMARKS / "results" / "data" / "pocket_demo")
    assert len(sets) >= 8
    for matrix in sets:
        for j, task in enumerate(matrix.tasks):
            means = matrix.samples[task].values.mean(axis=1)
            np.testing.assert_allclose(means, matrix.values[:, j], rtol=2e-3)
