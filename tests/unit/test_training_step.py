"""The comparison of training steps: all trainers compute the same, and what differs is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from helpers.scripts import BENCHMARKS, loaded
from helpers.tiny_vlm import mixture

pytestmark = [
    pytest.mark.extended,
    pytest.mark.filterwarnings("ignore"),  # of TRL and transformers, by their trainers
]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return loaded(BENCHMARKS / "training_step.py")


def test_all_trainers_take_the_same_steps(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    script.compare(script.of_random_weights(script.RANDOM["tiny"], 3, 2))
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert names == ["trainer", script.STOCK, script.TRL, script.ENCODED, script.KNOWN]


def test_the_records_of_a_recipe(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = mixture(tmp_path / "data", {"color": 1, "paint": 2})
    script.compare(script.of_recipe(recipe, 3, 1))
    assert "of 3 steps are equal" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [lambda work: {"learning_rate": 10 * work.learning_rate}, lambda work: {"accumulated": 1}],
    ids=["the update differs", "the steps differ"],
)
def test_another_step_is_found(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, change: Callable
) -> None:
    work, plain = script.of_random_weights(script.RANDOM["tiny"], 3, 2), script.stock
    other = dataclasses.replace(work, **change(work))
    monkeypatch.setattr(script, "stock", lambda _: plain(other))
    with pytest.raises(AssertionError, match="differ"):
        script.compare(work)


def test_a_failure_ends_all_trainers(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    work, plain = script.of_random_weights(script.RANDOM["tiny"], 3, 1), script.trl

    def failing(given: object) -> object:
        trainer = plain(given)
        monkeypatch.setattr(trainer, "compute_loss", None)
        return trainer

    monkeypatch.setattr(script, "trl", failing)
    with pytest.raises(TypeError):
        script.compare(work)


def test_images_are_known(script: ModuleType) -> None:
    work, lines = script.of_random_weights(script.RANDOM["tiny"], 2, 1), list[str]()
    features = script.known_features(work)
    features._report = lines.append
    script.weighted(work, features).train()
    features.save()
    (line,) = lines
    assert line.startswith("image features: 0 images encoded")
