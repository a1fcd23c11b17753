"""The fit finds a known response, says how well, and rejects trials that cannot tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cotbal.errors import ScoresError
from cotbal.response import Trials, choose_weights, fit_response
from cotbal.response.coordinates import directions
from helpers.errors import raises
from helpers.simulated_trials import drawn_effects, trials_of


def test_without_noise_the_response_is_found_exactly() -> None:
    effects, curvature = drawn_effects(7), np.linspace(-1, -0.2, 7)
    trials = trials_of(effects, curvature, noise=1e-6)
    response = fit_response(trials)
    slopes = [[response.slope(t, s).value for s in response.scored] for t in response.tasks]
    # Levels of the seeds are those of equal weights, but for the % they are counted in.
    assert np.array(slopes) == pytest.approx(effects, rel=0.06, abs=0.02)
    assert response.effects == pytest.approx(np.array(slopes), abs=0.01)
    assert response.curvature == pytest.approx(curvature, rel=0.06)
    assert response.explained > 0.999


def test_raising_all_weights_changes_nothing() -> None:
    response = fit_response(trials_of(drawn_effects(5), noise=1.0))
    assert response.effects.sum(axis=0) == pytest.approx(np.zeros(5), abs=1e-9)
    doubled = replace(trials := trials_of(drawn_effects(5), noise=1.0), weights=2 * trials.weights)
    assert fit_response(doubled).effects == pytest.approx(fit_response(trials).effects)


def test_the_order_of_tasks_does_not_matter() -> None:
    trials = trials_of(drawn_effects(6), noise=1.0)
    order = [3, 0, 5, 1, 4, 2]
    names = tuple(trials.tasks[i] for i in order)
    other = replace(
        trials,
        tasks=names,
        scored=names,
        weights=trials.weights[:, order],
        scores=trials.scores[:, order],
    )
    first, second = fit_response(trials), fit_response(other)
    assert second.effects == pytest.approx(first.effects[np.ix_(order, order)], abs=1e-8)
    assert second.slope("a", "b").low == pytest.approx(first.slope("a", "b").low)


def test_losses_are_scores_turned_round() -> None:
    trials = trials_of(drawn_effects(4), noise=1.0)
    losses = replace(trials, scores=2 * trials.scores.mean(axis=0) - trials.scores)
    losses = replace(losses, lower_is_better=True)
    assert fit_response(losses).effects == pytest.approx(fit_response(trials).effects, abs=0.2)


def test_tasks_with_a_score_alone_or_a_weight_alone() -> None:
    """A task that is only evaluated, and a domain that nobody scores."""
    trials = trials_of(drawn_effects(4), noise=0.5)
    scored = ("a", "b", "guard")
    scores = np.column_stack([trials.scores[:, :2], trials.scores[:, 3]])
    response = fit_response(replace(trials, scored=scored, scores=scores))
    assert response.effects.shape == (4, 3)
    assert response.slope("d", "guard").value == pytest.approx(drawn_effects(4)[3, 3], abs=1.5)


def test_a_single_score() -> None:
    trials = trials_of(drawn_effects(4), noise=0.5)
    alone = replace(trials, scored=("a",), scores=trials.scores[:, :1])
    assert fit_response(alone).effects[0, 0] == pytest.approx(drawn_effects(4)[0, 0], abs=1.5)


def test_intervals_of_slopes_and_shrunk_effects_hold() -> None:
    slopes, shrunk, narrower = [], [], []
    for seed in range(40):
        effects = drawn_effects(7, seed)
        response = fit_response(trials_of(effects, noise=1.5, seed=seed))
        for i, task in enumerate(response.tasks):
            for j, score in enumerate(response.scored):
                slope, effect = response.slope(task, score), response.effect(task, score)
                slopes.append(slope.low <= effects[i, j] <= slope.high)
                shrunk.append(effect.low <= effects[i, j] <= effect.high)
                narrower.append(effect.half_width / slope.half_width)
    assert 0.93 <= np.mean(slopes) <= 0.97
    assert 0.90 <= np.mean(shrunk) <= 0.98
    assert np.mean(narrower) < 0.9


def test_shrinkage_is_nearer_to_the_truth_than_least_squares() -> None:
    errors, raw = [], []
    for seed in range(20):
        effects = drawn_effects(7, seed)
        response = fit_response(trials_of(effects, noise=2.0, seed=seed))
        slopes = [[response.slope(t, s).value for s in response.scored] for t in response.tasks]
        errors.append(((response.effects - effects) ** 2).mean())
        raw.append(((np.array(slopes) - effects) ** 2).mean())
    assert np.mean(errors) < 0.75 * np.mean(raw)


def test_where_weights_do_nothing_the_check_says_so() -> None:
    still = [fit_response(trials_of(np.zeros((7, 7)), 0.0, 1.5, seed)) for seed in range(5)]
    moving = [fit_response(trials_of(4 * drawn_effects(7), -0.5, 1.5, seed)) for seed in range(5)]
    assert max(response.explained for response in still) < 0.2
    assert min(response.explained for response in moving) > 0.6
    assert (still[0].check.folds, still[0].check.pairs) == (7, True)


def test_the_check_predicts_trials_that_it_has_not_seen() -> None:
    """Its error is at least the noise of the left-out runs, unlike that of the fit itself."""
    responses = [fit_response(trials_of(drawn_effects(7), noise=1.5, seed=s)) for s in range(10)]
    assert np.mean([response.check.error for response in responses]) > 1.5


def test_a_score_that_never_changes_is_named_and_does_not_hide_the_others() -> None:
    """A saturated task, or a column that was copied: nothing of it can be predicted."""
    trials = trials_of(drawn_effects(4), noise=0.5)
    scores = trials.scores.copy()
    scores[:, 1] = 0.5
    response = fit_response(replace(trials, scores=scores))
    assert response.constant == ("b",)
    assert 0.5 < response.explained <= 1
    assert any("b" in warning.split() for warning in choose_weights(response, "a").warnings)
    assert fit_response(trials).constant == ()


def test_the_curvature_may_be_shared_or_none() -> None:
    trials = trials_of(drawn_effects(5), np.array([-2, -1, -1, -1, 0.0]), noise=0.2)
    by_task, shared = (fit_response(trials, kind).curvature for kind in ("task", "shared"))
    assert np.ptp(by_task) > 1
    assert np.ptp(shared) == pytest.approx(0, abs=1e-9)
    assert shared.mean() == pytest.approx(-1, abs=0.2)
    none = fit_response(trials, "none")
    assert not none.curved
    assert np.isnan(none.curve("a").value)


def test_an_upward_curve_is_not_extrapolated() -> None:
    response = fit_response(trials_of(drawn_effects(5), 2.0, noise=0.1))
    assert response.curve("a").value > 1
    assert response.curvature.tolist() == [0] * 5


def test_a_task_of_pure_luck_is_noticed() -> None:
    noise = np.array([1.0, 1, 1, 1, 1, 1, 25])
    response = fit_response(trials_of(drawn_effects(7), noise=noise))
    assert set(response.unmeasurable) == {"g"}
    calm = fit_response(trials_of(drawn_effects(7), noise=np.append(np.ones(6), 2.0)))
    assert calm.unmeasurable == {}
    assert response.effects[:, :6] == pytest.approx(calm.effects[:, :6], abs=0.5)


def test_a_score_with_two_levels_is_noticed() -> None:
    """One seed at .7, the other at .3, as when a skill appears suddenly."""
    trials = trials_of(drawn_effects(7), noise=1.0)
    scores = trials.scores.copy()
    scores[:, 2] *= np.where(np.array(trials.seeds) == "1", 0.4, 1.0)
    assert set(fit_response(replace(trials, scores=scores)).unmeasurable) == {"c"}


def random_weights(count: int, tasks: int = 4) -> np.ndarray:
    return np.exp2(np.random.default_rng(0).normal(0, 0.5, (count, tasks)))


def trials_at(weights: np.ndarray, seeds: tuple[str, ...] | None = None) -> Trials:
    tasks = tuple("abcdefgh"[: weights.shape[1]])
    scores = 0.5 + 0.01 * np.random.default_rng(1).standard_normal(weights.shape)
    return Trials(tasks, tasks, weights, scores, seeds or ("0",) * len(weights))


def test_any_table_will_do_where_weights_differ_enough() -> None:
    response = fit_response(trials_at(random_weights(7)))
    assert response.trials == 7
    assert not response.check.pairs


def test_too_few_trials() -> None:
    with raises(ScoresError, "too-few-trials", "5 trials", "6"):
        fit_response(trials_at(random_weights(5)))
    assert fit_response(trials_at(random_weights(5)), "none").trials == 5


def test_weights_that_always_move_together_are_aliased() -> None:
    weights = random_weights(12)
    weights[:, 2] = weights[:, 1]
    with raises(ScoresError, "aliased-effects", "b, c"):
        fit_response(trials_at(weights))


@pytest.mark.parametrize("digits", [2, 3])
def test_rounding_separates_nothing(digits: int) -> None:
    """Weights that would move together, and pairs that would be mirrored, but for their digits."""
    weights = random_weights(12)
    weights[:, 2] = weights[:, 1]
    with raises(ScoresError, "aliased-effects", "b, c"):
        fit_response(trials_at(np.column_stack([weights.round(digits)[:, :2], weights[:, 2:]])))
    trials = trials_of(drawn_effects(4), noise=1.0)
    assert fit_response(replace(trials, weights=trials.weights.round(digits))).check.pairs


def test_a_weight_that_differs_between_seeds_alone_is_aliased() -> None:
    weights, seeds = random_weights(12), ("0",) * 6 + ("1",) * 6
    weights[:, 3] = np.repeat([2.0, 0.5], 6) * np.prod(weights[:, :3], axis=1) ** (1 / 3)
    with raises(ScoresError, "aliased-effects", "d"):
        fit_response(trials_at(weights, seeds))


def test_without_equal_weights_a_design_has_no_curvature() -> None:
    trials = trials_of(drawn_effects(3), noise=1.0)
    moved = np.abs(trials.doublings).max(axis=1) > 0
    weights = np.tile(trials.weights[moved], (2, 1))
    with raises(ScoresError, "aliased-effects"):
        fit_response(trials_at(weights))


def test_directions_leave_out_what_all_weights_have_in_common() -> None:
    basis = directions(6)
    assert basis.T @ basis == pytest.approx(np.eye(5))
    assert basis.sum(axis=0) == pytest.approx(np.zeros(5), abs=1e-12)
