"""`cotbal outcome`: a frozen prediction against final models of one's own trainer."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cotbal.errors import CotbalError, ScoresError
from helpers.commands import Command

TASKS = ("vqa", "ocr", "chart")
PREDICTION, FINALS = Path("steered/prediction-ocr.json"), Path("steered/finals-ocr.csv")


def fill_in(table: Path, seed: int, rows: int | None = None) -> None:
    """Give every model scores that rise by 5 % per doubling of the own weight, with noise."""
    with table.open(newline="") as file:
        models = list(csv.DictReader(file))[:rows]
    generator = np.random.default_rng(seed)
    for model in models:
        for task in TASKS:
            change = 0.05 * np.log2(float(model[f"weight:{task}"]))
            noise = generator.normal(0, 0.003)
            model[f"score:{task}"] = str(0.5 * (1 + change + noise))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(models[0]))
        writer.writeheader()
        writer.writerows(models)


@pytest.fixture
def steered(cotbal: Command, tmp_path: Path) -> Command:
    """After trials and the choice of weights, in the current directory."""
    assert cotbal("design", *TASKS, "--out", "trials").code == 0
    fill_in(tmp_path / "trials/trials.csv", seed=0)
    arguments = ("--trials", "trials/trials.csv", "--goal", "ocr", "--out", "steered")
    ended = cotbal("steer", *arguments)
    assert ended.code == 0, ended.err
    assert f"cotbal outcome {PREDICTION} {FINALS}" in ended.out
    return cotbal


def test_final_models_are_held_against_the_prediction(steered: Command, tmp_path: Path) -> None:
    steered("outcome", PREDICTION, FINALS).expect(ScoresError, "missing-score", FINALS, "30 of 30")
    fill_in(tmp_path / FINALS, seed=1)
    ended = steered("outcome", PREDICTION, FINALS)
    assert ended.code == 0, ended.err
    content = json.loads(steered("outcome", PREDICTION, FINALS, "--json").out)
    assert content["seeds"] == ["2", "3", "4", "5", "6"]  # the trials had 0 and 1
    inside = sum(task["inside"] for task in content["tasks"].values())
    assert f"{inside} of 3 outcomes" in ended.out
    named = content["tasks"]["ocr"]["observed"]
    low, high = named["interval"]
    assert 0 < low < named["value"] < high
    assert f"{named['value']:+.1f} [{low:+.1f}, {high:+.1f}]" in ended.out
    assert content["tasks"]["ocr"]["floor"] is None
    assert content["tasks"]["vqa"]["floor"] == -1.0


def test_one_seed_gives_no_verdict_on_floors(steered: Command, tmp_path: Path) -> None:
    fill_in(tmp_path / FINALS, seed=1, rows=2)
    ended = steered("outcome", PREDICTION, FINALS, "--json")
    tasks = json.loads(ended.out)["tasks"]
    assert {task["floor_kept"] for task in tasks.values()} == {None}
    assert {task["observed"]["interval"] is None for task in tasks.values()} == {True}


@pytest.mark.parametrize(("loss", "kept"), [(0.0, "yes"), (0.04, "no")])
def test_floors_are_judged_by_the_interval(
    steered: Command, tmp_path: Path, loss: float, kept: str
) -> None:
    """Scores without noise: what is lost against equal weights decides."""
    with (tmp_path / FINALS).open(newline="") as file:
        models = list(csv.DictReader(file))
    for model in models:
        for task in TASKS:
            model[f"score:{task}"] = str(0.5 * (1 - loss * (model["file"] != "")))
    with (tmp_path / FINALS).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(models[0]))
        writer.writeheader()
        writer.writerows(models)
    tasks = json.loads(steered("outcome", PREDICTION, FINALS, "--json").out)["tasks"]
    assert [tasks[task]["floor_kept"] for task in ("vqa", "chart")] == [kept, kept]


def test_a_table_that_holds_scores_is_never_written_again(steered: Command, tmp_path: Path) -> None:
    fill_in(tmp_path / FINALS, seed=1)
    before = (tmp_path / FINALS).read_bytes()
    arguments = ("--trials", "trials/trials.csv", "--goal", "ocr", "--out", "steered")
    assert steered("steer", *arguments).code == 0
    assert (tmp_path / FINALS).read_bytes() == before


def test_a_changed_prediction_is_no_evidence(steered: Command, tmp_path: Path) -> None:
    fill_in(tmp_path / FINALS, seed=1)
    path = tmp_path / PREDICTION
    path.write_text(path.read_text().replace('"goal": "ocr"', '"goal": "vqa"'))
    steered("outcome", PREDICTION, FINALS).expect(CotbalError, "changed-prediction", PREDICTION)
