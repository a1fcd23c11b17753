"""A task without training data through a whole small job, by the real worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cotbal.scores.matrix import read_scores
from helpers.shell import cotbal
from helpers.tiny_vlm import mixture

GUARD = "tasks.guard={validation: data/paint_validation.jsonl, test: data/paint_test.jsonl}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("guarded")
    recipe = mixture(root / "data", {"color": 1, "paint": 2})
    checked = cotbal("check", recipe, GUARD)
    assert "task guard: no training set" in checked
    weightings = ("--weighting", "dwa", "--weighting", "cotbal")
    out = ("--out", root / "run", "--on", "inline")
    shown = cotbal("run", recipe, GUARD, "weightings.dwa={window: 1}", *weightings, *out)
    assert shown.count("guard") >= 2
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
        assert len(file.read_text().splitlines()) == 8
    base = run / "final" / "base-checkpoint"
    assert [file.name for file in (base / "scores").iterdir()] == ["guard.test.json"]
    outcome = json.loads((base / "outcome.json").read_text())
    assert (outcome["steps"], outcome["records"]) == (0, 0)
    assert not (base / "checkpoint").exists()
    page = (run / "report" / "index.html").read_text()
    assert "guard was only evaluated" in page
