from __future__ import annotations

import numpy as np
import pytest

from cotbal.balance import Settings, balance
from cotbal.balance.needs import needs
from cotbal.scores.matrix import ScoreMatrix
from helpers.balance_cases import right_or_wrong, with_samples


def one(weight: float, of_samples: float, of_seeds: float | None, seeds: int = 3):  # type: ignore[no-untyped-def]
    errors = None if of_seeds is None else np.array([of_seeds])
    return needs(("a",), np.array([weight]), np.array([of_samples]), errors, seeds)[0]


def test_by_hand() -> None:
    """An interval excludes 1 at a distance of 0.196 and a standard error of 0.1."""
    need = one(1.196, 0.2, None)
    assert need.samples == pytest.approx(4)
    assert need.seeds is None
    assert one(0.804, 0.05, None).samples == pytest.approx(0.25)
    assert one(1.196, 0.06, 0.08).samples == pytest.approx(1)
    assert one(1.196, 0.06, 0.08).seeds == 3
    assert one(1.196, 0.06, 0.16).seeds == 12


def test_what_more_of_one_thing_cannot_do() -> None:
    need = one(1.1, 0.1, 0.1)
    assert need.samples is None
    assert need.seeds is None
    assert one(1.0, 0.01, None).samples is None


def sampled(samples: int, seed: int) -> ScoreMatrix:
    levels = {"a": [0.2, 0.7, 0.3, 0.4], "b": [0.3, 0.4, 0.8, 0.35], "c": [0.1, 0.2, 0.15, 0.6]}
    return with_samples(
        {t: right_or_wrong(row, samples, seed + i) for i, (t, row) in enumerate(levels.items())}
    )


def test_the_advice_holds() -> None:
    """With as many samples as a weight was said to need, the half-width is about its distance from
    1.
    """
    few = balance(sampled(60, 5), settings=Settings(bootstrap=3000))
    need = max(few.needs, key=lambda each: abs(each.distance))
    assert need.samples is not None
    widths = []
    for seed in range(8):
        many = balance(
            sampled(round(60 * need.samples), 100 * seed), settings=Settings(bootstrap=500)
        )
        widths.append(many.weight(need.unit).half_width)
    assert np.mean(widths) == pytest.approx(abs(need.distance), rel=0.35)


def test_a_bare_table_has_no_advice_and_seeds_add_their_own() -> None:
    bare = ScoreMatrix(
        ("mini", "full:a", "full:b"), ("a", "b"), np.array([[0.2, 0.4], [0.6, 0.5], [0.3, 0.8]])
    )
    assert balance(bare).needs == ()
    single, double = balance(sampled(100, 0)), balance([sampled(100, 0), sampled(100, 50)])
    assert all(need.seed_error is None for need in single.needs)
    assert all(need.seed_error is not None and need.seed_error > 0 for need in double.needs)
