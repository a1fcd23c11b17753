"""A task without training data, whose answers are chosen among options, through a whole small
job, by the real worker.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cotbal.response import read_trials
from cotbal.scores.matrix import read_scores
from helpers.shell import cotbal
from helpers.tiny_vlm import COLOURS, mixture

pytestmark = pytest.mark.extended

FILES = "validation: data/paint_validation.jsonl, test: data/paint_test.jsonl"
GUARD = f"tasks.guard={{{FILES}, choose: mean}}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("guarded")
    recipe = mixture(root / "data", {"color": 1, "paint": 2}, choosing=("paint",))
    checked = cotbal("check", recipe, GUARD)
    assert "task guard" in checked
    weightings = ("--weighting", "dwa", "--weighting", "cotbal")
    out = ("--out", root / "run", "--on", "inline")
    shown = cotbal("run", recipe, GUARD, "weightings.dwa={window: 1}", *weightings, *out)
    assert shown.count("guard") >= 2
    assert "64 options" in cotbal("plan", recipe, GUARD, *out[:2])
    cotbal("verify", root / "run")
    return root / "run"


def test_training_knows_nothing_of_it(run: Path) -> None:
    assert read_scores(run / "scores.csv").tasks == ("color", "paint")
    for method in ("dwa", "cotbal"):
        lines = (run / "final" / method / "training.jsonl").read_text().splitlines()
        for line in map(json.loads, lines):
            assert set(line["weights"]) == {"color", "paint"}
            assert set(line["task_losses"]) <= {"color", "paint"}


def test_final_models_and_the_base_checkpoint_answer_it(run: Path) -> None:
    for name in ("dwa", "cotbal", "base-checkpoint"):
        file = run / "final" / name / "generations" / "guard.test.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(rows) == 8
        assert {row["answer"] for row in rows} <= {f"{colour} {colour}" for colour in COLOURS}
    base = run / "final" / "base-checkpoint"
    assert [file.name for file in (base / "scores").iterdir()] == ["guard.test.json"]
    outcome = json.loads((base / "outcome.json").read_text())
    assert (outcome["steps"], outcome["records"]) == (0, 0)
    assert not (base / "checkpoint").exists()
    page = (run / "report" / "index.html").read_text()
    assert "guard" in page


def test_trials_answer_it_without_a_weight(tmp_path: Path) -> None:
    recipe = mixture(tmp_path / "data", {"color": 1, "paint": 1}, train=64, choosing=("paint",))
    metrics = [f"tasks.{task}.metric=helpers.letters" for task in ("color", "paint", "guard")]
    out = ("--out", tmp_path / "run", "--on", "inline", "--fraction", "1/4")
    shown = cotbal("response", recipe, GUARD, *metrics, *out)
    assert re.search(r"^guard: \d\.\d{4} ", shown, re.MULTILINE)
    trials = read_trials(tmp_path / "run/response/trials.csv")
    assert (trials.tasks, trials.scored) == (("color", "paint"), ("color", "paint", "guard"))
    base = tmp_path / "run/trials/trial-base-checkpoint"
    assert [file.name for file in (base / "generations").glob("*.jsonl")] == [
        "guard.validation.jsonl"
    ]
    steered = cotbal("steer", "--trials", tmp_path / "run/response/trials.csv", "--goal", "color")
    assert "guard" in steered
