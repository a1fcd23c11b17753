"""A table of final models against a frozen prediction."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotbal.errors import ScoresError
from cotbal.response import choose_weights, fit_response, freeze, read_finals
from cotbal.response.finals import finals_table
from cotbal.response.prediction import compare_with_outcomes, mean_over_seeds
from cotbal.response.trials import Trials
from helpers.errors import raises
from helpers.simulated_trials import drawn_effects, trials_of

SEEDS = ("7", "8")


def prediction_of(trials: Trials, goal: str = "mean") -> dict[str, Any]:
    response = fit_response(trials)
    return freeze(response, choose_weights(response, goal, None))


@pytest.fixture(scope="module")
def trials() -> Trials:
    return trials_of(drawn_effects(3), noise=0.5)


@pytest.fixture(scope="module")
def prediction(trials: Trials) -> dict[str, Any]:
    made = prediction_of(trials, trials.tasks[0])
    assert not made["keep_equal"]
    return made


def filled(prediction: dict[str, Any], gain: float = 1.1) -> str:
    """The table of `finals_table`: with the chosen weights, the first score is `gain` times as
    high with one seed and the same with the other.
    """
    rows = list(csv.DictReader(io.StringIO(finals_table(prediction, "w.json", SEEDS))))
    assert len(rows) == 4
    tasks = list(prediction["predictions"])
    for row in rows:
        row |= {f"score:{task}": "0.5" for task in tasks}
        if row["file"] and row["seed"] == SEEDS[0]:
            row[f"score:{tasks[0]}"] = str(0.5 * gain)
    return written(rows)


def written(rows: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read(directory: Path, text: str, prediction: dict[str, Any]) -> Any:
    path = directory / "finals.csv"
    path.write_text(text)
    return read_finals(path, prediction)


def test_changes_are_paired_by_seed(tmp_path: Path, prediction: dict[str, Any]) -> None:
    lines = filled(prediction).splitlines()
    shuffled = "\n".join([lines[0], *reversed(lines[1:])])
    finals = read(tmp_path, shuffled, prediction)
    by_seed = dict(zip(finals.seeds, finals.changes[next(iter(finals.changes))], strict=True))
    assert by_seed == {SEEDS[0]: pytest.approx(10), SEEDS[1]: pytest.approx(0)}
    first, *others = compare_with_outcomes(prediction, finals.changes).outcomes
    assert first.observed == pytest.approx(5)
    assert mean_over_seeds(first.changes).has_bounds
    assert [one.observed for one in others] == [0.0] * len(others)


def test_other_proportions_are_no_outcome(tmp_path: Path, prediction: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(filled(prediction))))
    column = f"weight:{next(iter(prediction['weights']))}"
    for factor, is_same in ((1.001, True), (1.03, False)):
        changed = [dict(row) for row in rows]
        changed[1][column] = str(float(changed[1][column]) * factor)
        if is_same:
            assert read(tmp_path, written(changed), prediction).seeds == SEEDS
        else:
            with raises(ScoresError, "other-weights", "finals.csv"):
                read(tmp_path, written(changed), prediction)


def test_weights_count_by_their_proportions(tmp_path: Path, prediction: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(filled(prediction))))
    for row in rows:
        for task in prediction["weights"]:
            row[f"weight:{task}"] = str(3 * float(row[f"weight:{task}"]))
    assert read(tmp_path, written(rows), prediction).seeds == SEEDS


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda lines: lines[:-1], "missing-outcome"),
        (lambda lines: [*lines, lines[-1]], "repeated-name"),
        (lambda lines: [line.replace("weight:", "ratio:") for line in lines], "missing-column"),
        (lambda lines: [line.replace("score:", "note:") for line in lines], "missing-column"),
        (
            lambda lines: [line.replace("score:", "score:other-") for line in lines],
            "missing-column",
        ),
        (lambda lines: [line.replace(",0.5", ",0") for line in lines], "not-positive"),
    ],
)
def test_a_table_that_is_no_outcome(
    tmp_path: Path, prediction: dict[str, Any], change: Any, code: str
) -> None:
    lines = filled(prediction).splitlines()
    with raises(ScoresError, code, "finals.csv"):
        read(tmp_path, "\n".join(change(lines)), prediction)


def test_there_is_no_outcome_of_equal_weights(tmp_path: Path, prediction: dict[str, Any]) -> None:
    with raises(ScoresError, "missing-outcome", "finals.csv"):
        read(tmp_path, filled(prediction), {**prediction, "keep_equal": True})
    with raises(ScoresError, "missing-file", tmp_path):
        read_finals(tmp_path, prediction)


def test_ratios_multiply_those_that_the_trials_started_from(tmp_path: Path, trials: Trials) -> None:
    """A mixture of 1:30:900 is equal there; small ratios keep their digits in the table."""
    start = 30.0 ** np.arange(len(trials.tasks))
    sampled = Trials(
        tasks=trials.tasks,
        scored=trials.scored,
        weights=np.ones_like(trials.weights),
        scores=trials.scores,
        seeds=trials.seeds,
        ratios=trials.weights * start,
    )
    prediction = prediction_of(sampled, trials.tasks[0])
    assert prediction["lever"] == "ratios"
    text = filled(prediction)
    finals = read(tmp_path, text, prediction)
    assert finals.seeds == SEEDS
    equal = next(csv.DictReader(io.StringIO(text)))
    shown = np.array([float(equal[f"ratio:{task}"]) for task in trials.tasks])
    np.testing.assert_allclose(shown / shown[0], start, rtol=1e-3)
    with raises(ScoresError, "missing-column", "ratio:"):
        read(tmp_path, text.replace("ratio:", "weight:"), prediction)
    zeros = [{**row, **{f"ratio:{task}": "0" for task in trials.tasks}} for row in [equal]]
    with raises(ScoresError, "other-weights"):
        read(tmp_path, written(zeros), prediction)
