"""The chosen weights are the best ones that keep every guardrail."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from cotbal.errors import CotbalError
from cotbal.response import Response, choose_weights, fit_response, freeze
from cotbal.response.choice import Choice
from cotbal.response.choose import ROOM
from cotbal.response.coordinates import doublings
from helpers.errors import names_all, raises
from helpers.simulated_trials import drawn_effects, trials_of


@pytest.fixture(scope="module")
def response() -> Response:
    return fit_response(trials_of(drawn_effects(4), -0.5, noise=0.5))


def step_of(weights: dict[str, float]) -> np.ndarray:
    return doublings(np.array(list(weights.values())))


def grid() -> np.ndarray:
    """Steps of four tasks with mean 0 and at most one doubling."""
    ticks = np.linspace(-1, 1, 21)
    steps = np.array(list(product(ticks, ticks, ticks)))
    steps = np.column_stack([steps, -steps.sum(axis=1)])
    return steps[np.abs(steps[:, 3]) <= 1 + 1e-9]


@pytest.fixture(scope="module")
def on_grid(response: Response) -> tuple[np.ndarray, np.ndarray]:
    """Changes of the scores and their errors at every step of the grid."""
    steps = grid()
    changes = np.array([response.changes(step) for step in steps])
    return changes, np.array([response.errors(step) for step in steps])


@pytest.mark.parametrize("goal", ["mean", "worst", ["a"], ["b", "d"]])
@pytest.mark.parametrize("floor", [-0.5, -0.1, None])
def test_no_step_on_a_grid_is_feasible_and_better(
    response: Response,
    on_grid: tuple[np.ndarray, np.ndarray],
    goal: str | list[str],
    floor: float | None,
) -> None:
    choice = choose_weights(response, goal, floors=floor)
    z = step_of(choice.weights)
    assert np.abs(z).max() <= 1 + 1e-6
    chosen = [response.scored.index(task) for task in goal] if isinstance(goal, list) else range(4)

    def value(changes: np.ndarray) -> np.ndarray:
        of_goal = changes[..., list(chosen)]
        return of_goal.min(axis=-1) if goal == "worst" else of_goal.mean(axis=-1)

    guarded = [i for i in range(4) if isinstance(goal, str) or i not in chosen]

    def feasible(changes: np.ndarray, errors: np.ndarray) -> np.ndarray:
        bounds = (changes - errors)[..., guarded]
        return (bounds >= (-np.inf if floor is None else floor - 1e-9)).all(axis=-1)

    assert feasible(response.changes(z), response.errors(z))
    changes, errors = on_grid
    best = value(changes)[feasible(changes, errors)].max()
    if not choice.keep_equal:
        reached = float(value(response.changes(z)))
        assert reached >= best - 0.01
        assert choice.gain.value == pytest.approx(reached)


def test_guards_report_their_bounds(response: Response) -> None:
    choice = choose_weights(response, ["a"], {"*": -1.0, "b": -0.2})
    z = step_of(choice.weights)
    bounds = response.changes(z) - response.errors(z)
    assert {guard.task: guard.floor for guard in choice.guards} == {"b": -0.2, "c": -1, "d": -1}
    for guard in choice.guards:
        assert guard.bound == pytest.approx(bounds[response.scored.index(guard.task)], abs=1e-9)
        assert guard.bound >= guard.floor


def test_a_floor_of_0_and_a_tight_step(response: Response) -> None:
    choice = choose_weights(response, ["a"], 0.0, max_step=0.25)
    assert np.abs(step_of(choice.weights)).max() <= 0.25 + 1e-6
    assert all(guard.bound >= 0 for guard in choice.guards)


def test_floors_can_be_lifted_for_one_task_or_all(response: Response) -> None:
    free = choose_weights(response, ["a"], None)
    assert free.guards == ()
    some = choose_weights(response, ["a"], {"*": -0.1, "b": None})
    assert [guard.task for guard in some.guards] == ["c", "d"]
    strict = choose_weights(response, ["a"], -0.1)
    assert free.gain.value > some.gain.value >= strict.gain.value - 1e-6


def test_a_task_of_the_goal_is_guarded_where_asked(response: Response) -> None:
    choice = choose_weights(response, ["a", "b"], {"b": -0.3})
    assert [guard.task for guard in choice.guards] == ["b"]


def test_weights_have_mean_1_and_come_in_the_order_of_the_tasks(response: Response) -> None:
    weights = choose_weights(response, "d").weights
    assert list(weights) == list(response.tasks)
    assert np.mean(list(weights.values())) == pytest.approx(1)
    assert weights["d"] == max(weights.values())


def test_equal_weights_are_kept_where_nothing_promises_more() -> None:
    kept = [
        choose_weights(fit_response(trials_of(np.zeros((5, 5)), -0.5, 1.0, seed))).keep_equal
        for seed in range(10)
    ]
    assert sum(kept) >= 7
    choice = choose_weights(fit_response(trials_of(np.zeros((5, 5)), -3.0, 0.01)))
    assert choice.keep_equal
    assert set(choice.weights.values()) == {1.0}
    assert (choice.gain.value, choice.gain.low, choice.gain.high) == (0, 0, 0)
    assert "0.00" in choice.sentence, "the best guarded weights promise nothing"


def test_kept_equal_weights_say_what_the_best_guarded_ones_promise() -> None:
    """A smaller step may promise more than its own standard error; it is not tried."""
    smaller_is_clear = 0
    for seed in range(10):
        response = fit_response(trials_of(np.zeros((5, 5)), -0.5, 1.0, seed))
        choice = choose_weights(response, ["a"])
        free = choose_weights(response, ["a"], margin=0.0)
        assert choice.keep_equal == (choice.best.gain <= choice.best.error)
        if not choice.keep_equal:
            assert choice.best.gain == choice.gain.value
            continue
        content = choice.to_json()["best_guarded"]
        assert content == {"gain": choice.best.gain, "standard_error": choice.best.error}
        assert names_all(choice.sentence, f"{choice.best.gain:.2f}", f"{choice.best.error:.2f}")
        assert 0 <= choice.best.gain <= free.best.gain + 1e-3
        pull = response.effects[:, 0] / np.linalg.norm(response.effects[:, 0])
        small = response.combined(0.05 * pull, np.eye(5)[0])
        smaller_is_clear += small.value > response.combined_error(0.05 * pull, np.eye(5)[0])
    assert smaller_is_clear, "so the sentence must not speak of all weights"


def test_trials_on_a_fraction_are_warned_about() -> None:
    trials = trials_of(drawn_effects(4), noise=0.5)
    for fraction, warned in ((None, 0), (Fraction(1), 0), (Fraction(5, 32), 1)):
        response = fit_response(replace(trials, fraction=fraction))
        choice = choose_weights(response, ["a"])
        assert len(choice.warnings) == warned
        assert choice.to_json()["warnings"] == list(choice.warnings)
        assert freeze(response, choice)["warnings"] == list(choice.warnings)
        assert response.to_json()["fraction"] == (fraction and str(fraction))
    assert names_all(choice.warnings[0], "5/32", "--fraction 1")


def test_the_headroom_is_that_without_floors(response: Response) -> None:
    free, guarded = (choose_weights(response, floors=f, max_step=0.5) for f in (None, 0.0))
    assert free.headroom == guarded.headroom
    assert free.headroom.gain.value == pytest.approx(free.gain.value, abs=0.01)
    assert guarded.gain.value < free.gain.value
    assert names_all(free.headroom.sentence, "Without floors", "0.5 doublings")
    assert free.headroom.to_json()["max_step"] == 0.5


def test_intervals_hold_the_noise_of_training_alone(response: Response) -> None:
    """All trials answer the same validation samples."""
    choice = choose_weights(response, "worst")
    intervals = [choice.gain, choice.headroom.gain, *choice.changes.values()]
    intervals += [response.slope("a", "b"), response.effect("a", "b"), response.curve("a")]
    assert {interval.noise for interval in intervals} == {("training",)}


@pytest.mark.parametrize("tasks", [17, pytest.param(40, marks=pytest.mark.extended)])
def test_many_tasks_take_seconds(tasks: int) -> None:
    trials = trials_of(
        drawn_effects(tasks), noise=0.5, names=[f"task{number}" for number in range(tasks)]
    )
    started = time.process_time()
    response = fit_response(trials)
    chosen = [choose_weights(response, goal) for goal in ("mean", ["task3"], "worst")]
    assert time.process_time() - started < 10
    assert [choice.keep_equal for choice in chosen[:2]] == [False, False]
    assert all(guard.bound >= guard.floor for choice in chosen for guard in choice.guards)


def test_the_choice_is_the_same_every_time(response: Response) -> None:
    assert choose_weights(response, "worst") == choose_weights(response, "worst")


def test_a_task_of_pure_luck_is_neither_guarded_nor_a_goal() -> None:
    noise = np.append(np.ones(6), 30.0)
    response = fit_response(trials_of(drawn_effects(7), noise=noise))
    choice = choose_weights(response, ["a"])
    assert "g" not in {guard.task for guard in choice.guards}
    assert set(choice.unguarded) == {"g"}
    assert not choice.keep_equal, "luck of one task does not stop the others"
    assert choice.uncertain == {}
    asked = choose_weights(response, ["a"], {"g": -90})
    assert [guard.task for guard in asked.guards] == list(asked.uncertain) == ["g"]
    assert asked.unguarded == {}
    assert asked.to_json()["guarded_but_uncertain"] == response.unmeasurable
    with raises(CotbalError, "not-measurable", "g"):
        choose_weights(response, ["g"])


def test_the_weight_of_a_task_that_cannot_be_measured_is_not_lowered() -> None:
    """Nobody sees what it would lose, so the others do not grow at its cost."""
    effects = drawn_effects(7)
    effects[-1, :-1] = -3.0  # of the weight of g, on the scores of the others
    noise = np.append(np.ones(6), 30.0)
    response = fit_response(trials_of(effects, noise=noise))
    for goal in (["a"], "mean", "worst"):
        choice = choose_weights(response, goal)
        assert choice.not_lowered == ("g",)
        assert choice.to_json()["not_lowered"] == ["g"]
        assert doublings_of_g(choice) > -2 * ROOM
        for floors in (None, {"*": -1, "g": None}):
            free = choose_weights(response, goal, floors)
            assert free.not_lowered == ()
            assert doublings_of_g(free) < -0.3, "others gain by it"


def doublings_of_g(choice: Choice) -> float:
    logs = np.log2(list(choice.weights.values()))
    return float(logs[-1] - logs.mean())


def test_far_steps_and_a_missing_curvature_are_warned_about() -> None:
    trials = trials_of(2 * drawn_effects(4), -0.1, noise=0.3)
    assert choose_weights(fit_response(trials), max_step=0.7).warnings == ()
    (far,) = choose_weights(fit_response(trials), floors=None, max_step=3.0).warnings
    assert "extrapolation" in far
    warnings = choose_weights(fit_response(trials, "none"), floors=None, max_step=0.5).warnings
    assert ["curvature" in line for line in warnings] == [True]


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        ({"goal": "z"}, "unknown-task", "z"),
        ({"goal": ["a", "q"]}, "unknown-task", "q"),
        ({"goal": []}, "unknown-task", "a, b, c, d"),
        ({"floors": {"q": -1.0}}, "unknown-task", "q"),
        ({"floors": 0.5}, "infeasible-floor", "0.5"),
        ({"floors": {"b": 1.0}}, "infeasible-floor", "b"),
        ({"floors": float("nan")}, "infeasible-floor", "nan"),
        ({"max_step": 0.0}, "not-positive", "max_step"),
        ({"max_step": float("inf")}, "not-positive", "max_step"),
        ({"margin": -1.0}, "not-positive", "margin"),
    ],
)
def test_what_cannot_be_chosen(response: Response, options: dict, code: str, named: str) -> None:
    with raises(CotbalError, code, named):
        choose_weights(response, **options)


def test_headroom_lies_between_what_is_certain_and_what_is_possible(
    response: Response, on_grid: tuple[np.ndarray, np.ndarray]
) -> None:
    room = choose_weights(response).headroom.gain
    best = float(on_grid[0].mean(axis=1).max())
    assert room.value == pytest.approx(best, abs=0.01)
    assert 0 <= room.low <= room.value <= room.high
    less = choose_weights(response, max_step=0.2).headroom.gain
    assert less.high < room.high


def test_a_task_without_a_weight_is_guarded_and_not_part_of_the_mean() -> None:
    trials = trials_of(drawn_effects(4), noise=0.3)
    best = step_of(choose_weights(fit_response(trials), "mean", {"*": None}).weights)
    known = 0.5 * (1 - 0.05 * trials.doublings @ best / np.linalg.norm(best))
    scores = np.column_stack([trials.scores, known])
    table = replace(trials, scored=(*trials.scored, "known"), scores=scores)
    response = fit_response(table)
    assert response.counted == trials.scored
    assert "known" in response.mean_sentence
    free = choose_weights(response, "mean", {"*": None})
    changes = response.changes(step_of(free.weights))
    assert free.gain.value == pytest.approx(changes[:4].mean())
    assert np.abs(step_of(free.weights) - best).max() < 0.2
    assert changes[4] < -1
    bounded = choose_weights(response, "mean", {"*": None, "known": -0.5})
    assert [guard.task for guard in bounded.guards] == ["known"]
    assert bounded.guards[0].bound >= -0.5
    elsewhere = fit_response(replace(table, scored=tuple("vwxyz")))
    assert elsewhere.counted == tuple("vwxyz"), "no score is that of a task with a weight"
    assert not elsewhere.mean_sentence


def test_ratios_follow_where_trials_differ_in_them() -> None:
    trials = trials_of(drawn_effects(4), noise=0.3)
    ratios = trials.weights * [0.4, 0.3, 0.2, 0.1]
    ratios /= ratios.sum(axis=1, keepdims=True)
    response = fit_response(replace(trials, weights=np.ones_like(ratios), ratios=ratios))
    choice = choose_weights(response, "a")
    assert choice.weights == pytest.approx(
        choose_weights(fit_response(trials), "a").weights, rel=1e-3
    )
    chosen = choice.ratios(response.reference)
    assert chosen is not None
    assert sum(chosen.values()) == pytest.approx(1)
    expected = np.array(list(choice.weights.values())) * [0.4, 0.3, 0.2, 0.1]
    assert list(chosen.values()) == pytest.approx((expected / expected.sum()).tolist(), rel=1e-3)
    assert choose_weights(fit_response(trials)).ratios(None) is None
