"""What the best of random weights does, on trials of a simulated mixture whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from cotbal.response import Response, Trials, fit_response, two_level_design
from cotbal.response.coordinates import doublings
from helpers.scripts import BENCHMARKS, loaded

best_of_random = loaded(BENCHMARKS / "best_of_random.py").best_of_random

TASKS = ("a", "b", "c", "d", "e")
EFFECTS = 3.0 * np.eye(5) - 0.6  # % per doubling; raising all weights changes nothing


def response(noise: float, scale: float) -> Response:
    """The fit of 16 trials with this noise, %, and effects."""
    design = two_level_design(TASKS)
    z = doublings(design.weights)
    percent = scale * z @ EFFECTS - 0.5 * (z**2).sum(axis=-1)[..., None]
    percent = percent + np.random.default_rng(0).normal(0, noise, percent.shape)
    scores = 0.5 * (1 + percent / 100)
    return fit_response(Trials(TASKS, TASKS, design.weights, scores, tuple(map(str, design.seeds))))


def test_without_noise_the_best_weights_gain_and_floors_hold() -> None:
    exact = response(0.01, scale=1.0)
    free = best_of_random(exact, ["a"], None, draws=100)
    guarded = best_of_random(exact, ["a"], -1.0, draws=100)
    assert free.low > 0.5
    assert free.harm > 0.5
    assert guarded.low >= -0.1
    assert guarded.harm < 0.1
    assert guarded.gain < free.gain


def test_where_only_noise_decides_the_kept_weights_are_worse_than_equal_ones() -> None:
    luck = response(4.0, scale=0.0)
    kept = best_of_random(luck, TASKS, None, draws=100)
    assert kept.gain < 0
    assert kept.equal == pytest.approx(1 / 16, abs=0.15)
    assert kept == best_of_random(luck, TASKS, None, draws=100)
