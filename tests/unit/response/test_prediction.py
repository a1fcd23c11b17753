"""A prediction is frozen before final trainings and held against what comes out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from cotbal.errors import CotbalError
from cotbal.response import (
    Choice,
    Response,
    choose_weights,
    compare_with_outcomes,
    fit_response,
    freeze,
    read_prediction,
)
from cotbal.response.prediction import is_same
from helpers.errors import raises
from helpers.simulated_trials import drawn_effects, trials_of

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def chosen() -> tuple[Response, Choice]:
    response = fit_response(trials_of(drawn_effects(7), noise=1.0))
    return response, choose_weights(response, ["a"])


def saved(directory: Path, content: object) -> Path:
    path = directory / "prediction.json"
    path.write_text(json.dumps(content))
    return path


def test_a_file_is_dated_hashed_and_read_again(
    tmp_path: Path, chosen: tuple[Response, Choice]
) -> None:
    content = freeze(*chosen, now=NOW)
    assert content["date"] == "2026-11-29T12:00:00+00:00"
    read = read_prediction(saved(tmp_path, content))
    assert read["weights"] == dict(chosen[1].weights)
    assert read["predictions"]["a"]["value"] == chosen[1].changes["a"].value
    assert {guard["task"] for guard in read["guards"]} == set("bcdefg")


def test_a_changed_file_is_noticed(tmp_path: Path, chosen: tuple[Response, Choice]) -> None:
    content = freeze(*chosen, now=NOW)
    content["predictions"]["a"]["value"] += 0.1
    with raises(CotbalError, "changed-prediction", "2026-11-29"):
        read_prediction(saved(tmp_path, content))


def test_a_changed_file_may_hold_half_a_surrogate_pair(
    tmp_path: Path, chosen: tuple[Response, Choice]
) -> None:
    content = {**freeze(*chosen, now=NOW), "unit": "\ud800"}  # JSON can hold it, UTF-8 cannot
    with raises(CotbalError, "changed-prediction"):
        read_prediction(saved(tmp_path, content))


@pytest.mark.parametrize("content", [[], {}, {"format": "other"}])
def test_another_file_is_no_prediction(tmp_path: Path, content: object) -> None:
    with raises(CotbalError, "invalid-prediction", "prediction.json"):
        read_prediction(saved(tmp_path, content))


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with raises(CotbalError, "missing-file", "none.json"):
        read_prediction(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with raises(CotbalError, "invalid-prediction", "broken.json"):
        read_prediction(tmp_path / "broken.json")


def test_outcomes_are_held_against_the_prediction(
    tmp_path: Path, chosen: tuple[Response, Choice]
) -> None:
    prediction = read_prediction(saved(tmp_path, freeze(*chosen, now=NOW)))
    values = {task: entry["value"] for task, entry in prediction["predictions"].items()}
    right = compare_with_outcomes(prediction, {task: [v, v] for task, v in values.items()})
    assert (right.coverage, right.correlation) == (1.0, pytest.approx(1.0))
    wrong = compare_with_outcomes(prediction, {"a": [values["a"] + 50], "b": [values["b"]]})
    assert [outcome.inside for outcome in wrong.outcomes] == [False, True]
    assert wrong.coverage == 0.5
    assert np.isnan(wrong.correlation)
    assert wrong.outcomes[0].seeds == 1


def test_two_predictions_say_the_same_where_their_numbers_do(
    chosen: tuple[Response, Choice],
) -> None:
    content, later = freeze(*chosen, now=NOW), freeze(*chosen)
    assert later["date"] != content["date"]
    assert is_same({**content, "warnings": ["other words"]}, later)
    assert not is_same({**content, "trials_sha256": "other"}, later)
    other = {**content["predictions"], "a": {**content["predictions"]["a"], "value": 0.0}}
    assert not is_same({**content, "predictions": other}, later)


def test_more_seeds_give_a_narrower_prediction(chosen: tuple[Response, Choice]) -> None:
    prediction = freeze(*chosen, now=NOW)
    one, many = (
        compare_with_outcomes(prediction, {"a": [1.0] * n}).outcomes[0].predicted for n in (1, 16)
    )
    assert many.half_width < 0.6 * one.half_width
    assert many.half_width > chosen[1].changes["a"].half_width


def test_outcomes_that_cannot_be_compared(chosen: tuple[Response, Choice]) -> None:
    prediction = freeze(*chosen, now=NOW)
    with raises(CotbalError, "unknown-task", "q"):
        compare_with_outcomes(prediction, {"q": [1.0]})
    with raises(CotbalError, "missing-outcome", "a"):
        compare_with_outcomes(prediction, {"a": []})
    with raises(CotbalError, "missing-outcome"):
        compare_with_outcomes(prediction, {})
