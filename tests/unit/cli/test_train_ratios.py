"""`cotbal train --ratios` and its plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.commands import Command
from helpers.pipeline_fakes import EXECUTOR, TRAIN

ON = ("--on", EXECUTOR)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights-ocr.json"
    path.write_text(json.dumps({"ocr": 2.0, "vqa": 0.5, "count": 0.5}))
    return path


def test_train_with_ratios(cotbal: Command, recipe_path: Path, file: Path) -> None:
    trained = cotbal("train", recipe_path, "--ratios", file, *ON)
    assert trained.code == 0, trained.err
    assert Path("runs/small/final/ratios-ocr/outcome.json").exists()
    assert not Path("runs/small/final/ew").exists()
    assert not Path("runs/small/weights.json").exists()
    states = json.loads(cotbal("status", "runs/small", "--json").out)
    assert ("ratios:ocr", "done") in {(state["run"], state["state"]) for state in states}
    assert cotbal("train", recipe_path, "--ratios", file, "--weighting", "ew", *ON).code == 0


@pytest.mark.parametrize("options", [("--weighting", "cotbal"), ("--weights", "FILE")])
def test_ratios_take_the_place_of_weights(
    cotbal: Command, recipe_path: Path, file: Path, options: tuple[str, str]
) -> None:
    given = [file if option == "FILE" else option for option in options]
    ended = cotbal("train", recipe_path, "--ratios", file, *given, *ON)
    assert (ended.code, ended.error.code) == (2, "conflicting-options")


def test_the_plan_shows_passes_and_cost(cotbal: Command, recipe_path: Path, file: Path) -> None:
    shown = cotbal("plan", recipe_path, "--ratios", file).out
    assert "ratios:ocr" in shown
    for passes in ("ocr 2.00", "vqa 0.50", "count 0.50", "chat 1.00"):
        assert passes in shown
    runs = json.loads(cotbal("plan", recipe_path, "--ratios", file, "--json").out)["runs"]
    assert runs[-1]["records"] == 4 * TRAIN
    assert runs[-1]["ratios"] == {"ocr": 2.0, "vqa": 0.5, "count": 0.5, "chat": 1.0}
    ended = cotbal("plan", recipe_path, "optimization.max_passes=1.5", "--ratios", file)
    assert (ended.code, ended.error.code) == (2, "too-many-passes")


def test_the_sampling_of_the_recipe_is_shown_and_named(
    cotbal: Command, recipe_path: Path, tmp_path: Path
) -> None:
    """In the plan, where runs that show records alike share a line, and where one chooses."""
    doubled = "optimization.sampling={ocr: 2}"
    shown = cotbal("plan", recipe_path, doubled, "--weighting", "ew").out
    lines = [line for line in shown.splitlines() if "passes per epoch" in line]
    assert len(lines) < 5
    assert "mini; mini, seed 1; mini, seed 2: ocr 1.50, vqa 0.75, count 0.75" in shown
    root = tmp_path / "run"
    trials = ("response.fraction=1", doubled, "--out", root, *ON)
    assert "optimization.sampling" in cotbal("response", recipe_path, *trials).out
    assert "optimization.sampling" in cotbal("steer", root, "--goal", "ocr").out
    plain = cotbal("response", recipe_path, trials[0], "--out", tmp_path / "plain", *ON).out
    assert "optimization.sampling" not in plain


def test_a_file_that_holds_no_weights(cotbal: Command, recipe_path: Path, tmp_path: Path) -> None:
    ended = cotbal("train", recipe_path, "--ratios", tmp_path / "absent.json", *ON)
    assert (ended.code, ended.error.code) == (2, "missing-file")
