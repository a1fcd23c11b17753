"""One run in two processes, started by torchrun: it ends as in one, and what fails in one of them
fails the run.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.shell import cotbal
from helpers.tiny_vlm import copy, mixture

RANKS = "resources={gpus: 0, ranks: 2}"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """54 records in batches of 8: the last batch of an epoch has fewer rows than ranks can share
    evenly.
    """
    recipe = mixture(tmp_path_factory.mktemp("mixture") / "a", {"color": 1, "paint": 2}, train=27)
    return recipe


def train(recipe: Path, root: Path, *more: str, code: int = 0) -> str:
    return cotbal("train", recipe, *more, "--weighting", "ew", "--out", root, code=code)


@pytest.mark.extended
def test_two_ranks_end_as_one(source: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    train(source, one, "optimization.epochs=2", "--on", "inline")
    train(source, two, "optimization.epochs=2", RANKS, "optimization.packing=true")
    models = [load_file(path / "final/ew/checkpoint/model.safetensors") for path in (one, two)]
    base = load_file(source.parent / "base" / "model.safetensors")
    moved, apart = (
        torch.cat([(values - other[name]).flatten() for name, values in models[0].items()]).norm()
        for other in (base, models[1])
    )
    assert moved > 0.1
    assert apart / moved < 1e-5
    outcomes = [json.loads((path / "final/ew/outcome.json").read_text()) for path in (one, two)]
    assert [outcome["ranks"] for outcome in outcomes] == [1, 2]
    for key in ("steps", "records", "tokens"):
        assert outcomes[0][key] == outcomes[1][key]
    answers = [(path / "final/ew/generations/paint.test.jsonl").read_text() for path in (one, two)]
    assert answers[0] == answers[1]
    steps = [
        json.loads(line)["step"]
        for line in (two / "final/ew/training.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(set(steps)), "one rank writes"


@pytest.mark.extended
def test_a_problem_in_one_rank_fails_the_run_and_is_reported(source: Path, tmp_path: Path) -> None:
    """The one half image is met by a single rank; the other only finds that its fellow is
    gone."""
    recipe = copy(source.parent, tmp_path / "broken")
    images = recipe.parent / "images"
    (images / "half.png").write_bytes((images / "red.png").read_bytes()[:80])
    records = recipe.parent / "data" / "paint_train.jsonl"
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    rows[5]["image"] = "half.png"
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = train(recipe, tmp_path / "run", RANKS, code=2)
    assert "half.png" in output
    assert "half.png" in json.loads((tmp_path / "run/final/ew/failure.json").read_text())["message"]
    assert not (tmp_path / "run/final/ew/outcome.json").exists()
