from __future__ import annotations

import numpy as np
import pytest

from cotbal.errors import CotbalError
from cotbal.metrics.judge import relative
from cotbal.scores.matrix import Measured
from cotbal.scores.measure import given_by, load_metric, measure
from helpers.errors import raises

NAN = float("nan")


def test_the_score_is_the_quotient_of_the_sums() -> None:
    answers, references = np.array([4.0, 9.0, 7.5]), np.array([8.0, 10.0, 5.0])
    measured = Measured(*relative(answers, references))
    assert measured.score == pytest.approx(100 * 20.5 / 23, rel=1e-14)
    assert measured.linear.mean() == pytest.approx(measured.score, rel=1e-14)
    np.testing.assert_allclose(measured.values, [50, 90, 150])


def test_a_pair_without_ratings_has_weight_0() -> None:
    """The score is that of the others, and the pair is an average one where plain means are
    taken."""
    measured = Measured(*relative(np.array([4.0, NAN, 9.0]), np.array([8.0, NAN, 10.0])))
    assert measured.score == pytest.approx(100 * 13 / 18)
    assert measured.linear[1] == pytest.approx(measured.score)
    assert measured.linear.mean() == pytest.approx(measured.score)


def test_it_cannot_be_computed_here() -> None:
    assert given_by("judge") == "cotbal judge"
    assert given_by("exact_match") is None
    best = Measured(*relative(np.array([10.0]), np.array([1.0])))
    assert best.score == load_metric("judge").MAXIMUM
    with raises(CotbalError, "scores-from-elsewhere", "judge", "`cotbal judge`"):
        measure("judge", ["a"], [["b"]])
