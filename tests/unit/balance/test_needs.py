from __future__ import annotations

import numpy as np
import pytest

from cotbal.balance import Settings, balance
from cotbal.balance.needs import Need, needs
from cotbal.scores.interval import Noise
from cotbal.scores.matrix import ScoreMatrix
from helpers.balance_cases import replicated_minis, right_or_wrong, with_samples


def one(weight: float, of_samples: float | None, of_training: float, seeds: int = 3) -> Need:
    errors: dict[Noise, np.ndarray] = {"training": np.array([of_training])}
    if of_samples is not None:
        errors["samples"] = np.array([of_samples])
    return needs(("a",), np.array([weight]), errors, seeds)[0]


def test_by_hand() -> None:
    """An interval excludes 1 at a distance of 0.196 and a standard error of 0.1."""
    need = one(1.196, 0.2, 0.0)
    assert need.samples == pytest.approx(4)
    assert need.seeds is None
    assert one(1.196, 0.06, 0.08).samples == pytest.approx(1)
    assert one(1.196, 0.06, 0.08).seeds == 3
    assert one(0.804, 0.06, 0.08).seeds == 3
    assert one(1.196, 0.06, 0.16).seeds == 12


def test_what_more_of_one_thing_cannot_do() -> None:
    need = one(1.1, 0.1, 0.1)
    assert need.samples is None
    assert need.seeds is None
    assert one(1.0, 0.01, 0.0).samples is None


def test_a_table_without_samples_needs_seeds() -> None:
    need = one(1.196, None, 0.2, seeds=2)
    assert need.samples is None
    assert need.seeds == 8


def sampled(samples: int, seed: int) -> ScoreMatrix:
    levels = {"a": [0.2, 0.7, 0.3, 0.4], "b": [0.3, 0.4, 0.8, 0.35], "c": [0.1, 0.2, 0.15, 0.6]}
    return with_samples(
        {t: right_or_wrong(row, samples, seed + i) for i, (t, row) in enumerate(levels.items())}
    )


def test_the_advice_holds() -> None:
    """With as many samples as a weight was said to need, the half-width is about its distance from
    1.
    """
    few = balance(replicated_minis(sampled(60, 5), noise=0.002), settings=Settings(bootstrap=3000))
    need = max(few.needs, key=lambda row: abs(row.distance))
    assert need.samples is not None
    widths = []
    for seed in range(8):
        many = balance(
            replicated_minis(sampled(round(60 * need.samples), 100 * seed), noise=0.002),
            settings=Settings(bootstrap=500),
        )
        widths.append(many.weight(need.unit).half_width)
    assert np.mean(widths) == pytest.approx(abs(need.distance), rel=0.35)


def test_no_advice_where_the_noise_of_training_is_not_known() -> None:
    bare = ScoreMatrix(
        ("mini", "full:a", "full:b"), ("a", "b"), np.array([[0.2, 0.4], [0.6, 0.5], [0.3, 0.8]])
    )
    assert balance(bare).needs == ()
    assert balance(sampled(100, 0)).needs == ()
    double = balance([sampled(100, 0), sampled(100, 50)])
    assert len(double.needs) == 3
    assert all(need.training_error > 0 for need in double.needs)
