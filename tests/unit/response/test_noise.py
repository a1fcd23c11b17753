"""Student's t, and variances moderated over tasks, against known values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cotbal.response.noise import digamma, inverse_trigamma, moderated_noise, trigamma
from cotbal.response.student import t_cdf, t_quantile


@pytest.mark.parametrize(
    ("freedom", "value"),
    [(1, 12.7062), (2, 4.3027), (4, 2.7764), (7, 2.3646), (30, 2.0423), (math.inf, 1.95996)],
)
def test_quantiles_are_those_of_tables(freedom: float, value: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(value, rel=1e-4)
    assert t_quantile(0.025, freedom) == -t_quantile(0.975, freedom)


@pytest.mark.parametrize("freedom", [1, 2.5, 9, 200])
@pytest.mark.parametrize("probability", [0.001, 0.3, 0.5, 0.8, 0.9995])
def test_the_quantile_inverts_the_distribution(freedom: float, probability: float) -> None:
    assert t_cdf(t_quantile(probability, freedom), freedom) == pytest.approx(probability)


def test_one_degree_of_freedom_is_the_cauchy_distribution() -> None:
    assert t_cdf(2.0, 1) == pytest.approx(0.5 + math.atan(2.0) / math.pi)


def test_digamma_and_trigamma() -> None:
    assert digamma(1.0) == pytest.approx(-0.5772156649)
    assert trigamma(1.0) == pytest.approx(math.pi**2 / 6)
    assert trigamma(0.5) == pytest.approx(math.pi**2 / 2)
    assert inverse_trigamma(trigamma(3.3)) == pytest.approx(3.3)


def test_equal_noise_is_pooled() -> None:
    noise = moderated_noise(np.array([7.0, 7.0, 7.0]), 7)
    assert noise.deviation == pytest.approx([1, 1, 1])
    assert noise.freedom.tolist() == [21, 21, 21]


def test_different_noise_stays_different() -> None:
    squares = 20 * np.array([0.01, 1.0, 100.0])
    noise = moderated_noise(squares, 20)
    assert noise.raw == pytest.approx([0.1, 1, 10])
    assert noise.deviation == pytest.approx(noise.raw, rel=0.25)
    assert (noise.freedom >= 20).all()
    assert (noise.freedom < 30).all()


def test_moderated_noise_is_nearer_to_the_truth() -> None:
    generator = np.random.default_rng(0)
    raw, moderated = [], []
    for _ in range(200):
        noise = moderated_noise(generator.chisquare(4, 7), 4)
        raw.append(np.log(noise.raw))
        moderated.append(np.log(noise.deviation))
    assert np.square(moderated).mean() < 0.5 * np.square(raw).mean()


def test_a_single_task_keeps_its_own() -> None:
    noise = moderated_noise(np.array([8.0]), 2)
    assert (noise.deviation[0], noise.freedom[0]) == (2.0, 2.0)
