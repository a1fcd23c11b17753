"""Which share of the curvature of scores is due to their own weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cotbal.response import Response, Trials, fit_response
from cotbal.response.coordinates import doublings
from cotbal.response.departure import Departure
from helpers.simulated_trials import drawn_effects, trials_of

TASKS = 7
EFFECTS = drawn_effects(TASKS)


def fitted(share: float, noise: float = 0.05) -> Response:
    return fit_response(trials_of(EFFECTS, -0.5, noise, share=share))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_precise_trials_tell_the_share(share: float) -> None:
    departure = fitted(share).departure
    assert departure.share == pytest.approx(share, abs=0.06)
    assert 0 < departure.error < 0.1


def test_noisy_trials_leave_it_open() -> None:
    assert 0.15 < fitted(1.0, noise=3.0).departure.error < 0.35


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_one_weight_alone_does_is_predicted(share: float) -> None:
    z = doublings(np.exp2(np.array([0.9, *[0.0] * (TASKS - 1)])))
    truth = z @ EFFECTS - 0.5 * Departure(np.eye(TASKS), share)(z)
    response = fitted(share)
    assert response.changes(z)[0] == pytest.approx(truth[0], abs=0.2)
    far = fitted(1 - share).changes(z)[0]
    assert abs(far - truth[0]) > 1, "the other share predicts something else"


def test_an_unknown_share_widens_the_intervals_where_it_matters() -> None:
    response = fitted(0.5, noise=1.0)
    known = replace(response, departure=replace(response.departure, error=0.0))
    alone = doublings(np.exp2(np.array([0.9, *[0.0] * (TASKS - 1)])))
    assert response.errors(alone)[0] > 1.05 * known.errors(alone)[0]
    shares = np.eye(TASKS)[0]
    assert response.combined_error(alone, shares) == pytest.approx(response.errors(alone)[0])


def balanced(with_scores: tuple[str, ...]) -> Trials:
    """Trials of four tasks, two weights up and two down, which do not tell the share."""
    up = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    z = 0.75 * np.concatenate([up, -up, np.zeros((2, 4))])
    generator = np.random.default_rng(0)
    scores = 0.5 + 0.01 * generator.standard_normal((len(z), len(with_scores)))
    scores -= 0.02 * (z**2).sum(axis=1, keepdims=True)
    return Trials(("a", "b", "c", "d"), with_scores, np.exp2(z), scores, ("0",) * len(z))


def test_without_a_word_from_the_trials_it_is_one_half() -> None:
    departure = fit_response(balanced(("a", "b", "c", "d"))).departure
    assert departure.share == pytest.approx(0.5)
    assert departure.error == pytest.approx(0.3, abs=0.01)


def test_scores_without_a_weight_of_their_own_have_no_share() -> None:
    response = fit_response(balanced(("x", "y")))
    assert response.departure.share == response.departure.error == 0
    z = np.array([0.6, -0.2, -0.2, -0.2])
    assert response.departure.excess(z) == pytest.approx(np.zeros(2))
