"""Score against the fraction of the training data on a tiny mixture, by the real worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotbal.data.sampling import read_manifest
from cotbal.jobs import worker
from cotbal.scores.matrix import read_scores
from helpers.planned_jobs import planned
from helpers.shell import cotbal
from helpers.tiny_vlm import mixture

pytestmark = pytest.mark.extended

TASKS = {"color": 1, "paint": 2}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("curve")
    recipe = mixture(root / "data", TASKS)
    cotbal(
        "curve", recipe, "--fractions", "1/4,1", "--alone", "--out", root / "run", "--on", "inline"
    )
    return root / "run"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_fraction_is_trained_on_its_share_and_scored_on_the_validation_sets(
    drawn: Path,
) -> None:
    records = {
        run.parent.name: read(run)["records"] for run in (drawn / "curve").glob("*/outcome.json")
    }
    assert records == {
        "fraction-1_4": 2 * 6,
        "fraction-1": 2 * 24,
        "alone-color-1_4": 6,
        "alone-color-1": 24,
        "alone-paint-1_4": 6,
        "alone-paint-1": 24,
    }
    matrix = read_scores(drawn / "curve" / "scores.csv")
    assert matrix.tasks == tuple(TASKS)
    assert np.isnan(matrix.values).sum() == 4, "a task alone answers its own set"
    assert {path.name for path in drawn.rglob("generations/*.jsonl")} == {
        f"{task}.validation.jsonl" for task in TASKS
    }
    assert not list(drawn.rglob("checkpoint"))
    assert "Score against fraction of the data" in (drawn / "report" / "index.html").read_text()


def test_the_fraction_of_the_mini_is_the_mini(drawn: Path, tmp_path: Path) -> None:
    """The recipe's mini is 1/4. The probe of that name, done by the worker, is the same training to
    the last bit.
    """
    manifest = read_manifest(drawn / "portions" / "color.csv")
    assert manifest.of("mini").tolist() == manifest.of("1/4").tolist()
    fraction, mini = drawn / "curve" / "fraction-1_4", tmp_path / "mini"
    job = read(fraction / "job.json")
    job["run"] |= {"name": "mini", "portions": dict.fromkeys(TASKS, "mini")}
    mini.mkdir()
    (mini / "job.json").write_text(json.dumps(planned(job)))
    worker.main([str(mini / "job.json")])
    losses = [
        [step["task_losses"] for step in lines(run / "training.jsonl")] for run in (fraction, mini)
    ]
    assert losses[0] == losses[1]
    assert losses[0]
    for task in TASKS:
        answers = [
            lines(run / "generations" / f"{task}.validation.jsonl") for run in (fraction, mini)
        ]
        assert answers[0] == answers[1]
