"""From a recipe to the response and a steered final model by the real worker, on a tiny mixture:
killed, resumed, fitted.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cotbal.data.files import read_json, write_json
from cotbal.response import fit_response, read_trials
from cotbal.scores.weights_file import read_weights
from cotbal.weightings import method_label
from helpers.shell import command, cotbal
from helpers.tiny_vlm import mixture

pytestmark = pytest.mark.extended
TASKS = {"color": 1, "paint": 1}
LIMIT = 300.0  # seconds


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run directory whose first command was killed, and what the second printed."""
    root = tmp_path_factory.mktemp("response")
    recipe = mixture(root / "data", TASKS, train=64)
    metrics = [f"tasks.{task}.metric=helpers.letters" for task in TASKS]
    arguments = ("response", recipe, *metrics, "--fraction", "1", "--out", root / "run")
    with _helpers_on_the_path():
        _killed(root / "run", *arguments)
        return root / "run", cotbal(*arguments)


@pytest.fixture(scope="module")
def steered(measured: tuple[Path, str]) -> tuple[Path, str]:
    """The same with final models of equal and steered weights, and what the comparison printed."""
    root, _ = measured
    cotbal("steer", root, "--goal", "color", "--floor", "none")
    weights = root / "response/weights-color.json"
    content = read_json(weights)
    if len(set(content["weights"].values())) == 1:  # few trials of a tiny model: any others do
        write_json(weights, {"weights": {"color": 1.5, "paint": 0.5}})
    with _helpers_on_the_path():
        recipe, methods = root / "recipe.yaml", ("--methods", "ew,steer:color")
        return root, cotbal("compare", recipe, *methods, "--out", root)


@contextmanager
def _helpers_on_the_path() -> Iterator[None]:
    """Workers find the metric of the recipe."""
    with pytest.MonkeyPatch.context() as patch:
        helpers = str(Path(__file__).parents[1])
        patch.setenv("PYTHONPATH", os.pathsep.join([helpers, os.environ.get("PYTHONPATH", "")]))
        yield


def _killed(root: Path, *arguments: str | Path) -> None:
    """Kill the command when its first trial is done."""
    first = subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + LIMIT
    while not list(root.glob("trials/*/outcome.json")):
        assert first.poll() is None, "the job ended before the moment at which it was to be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    first.kill()
    first.wait()
    assert not (root / "response/trials.csv").exists()


def steps(run: Path, field: str) -> list[Any]:
    return [json.loads(line)[field] for line in (run / "training.jsonl").read_text().splitlines()]


def test_the_table_holds_every_trial(measured: tuple[Path, str]) -> None:
    root, printed = measured
    trials = read_trials(root / "response/trials.csv")
    assert trials.tasks == tuple(TASKS)
    assert trials.seeds == ("0", "0", "1", "1", "0", "0", "0", "1")
    assert len(list(root.rglob("trials/*/outcome.json"))) == 8
    assert {path.name for path in root.rglob("trials/*/generations/*.jsonl")} == {
        f"{task}.validation.jsonl" for task in TASKS
    }
    assert not list(root.rglob("trials/*/checkpoint"))
    for task in TASKS:
        assert task in printed
    assert f"cotbal steer {root} --goal" in printed
    assert fit_response(trials).check_sentence in printed


def test_a_pair_sees_the_same_batches_with_other_weights(measured: tuple[Path, str]) -> None:
    root, _ = measured
    for home in (root / "trials", root / "seed-1" / "trials"):
        up, down = sorted(home.glob("*"))[:2]
        assert steps(up, "task_tokens") == steps(down, "task_tokens")
        assert steps(up, "task_losses")[0] == steps(down, "task_losses")[0]
        assert steps(up, "task_losses")[-1] != steps(down, "task_losses")[-1]
        assert steps(up, "weights")[0] != steps(down, "weights")[0]
    first, second = (root / "trials/trial-0", root / "seed-1/trials/trial-2")
    assert steps(first, "task_losses")[0] != steps(second, "task_losses")[0]


def test_equal_weights_are_those_of_equal_weights(measured: tuple[Path, str]) -> None:
    root, _ = measured
    for weights in steps(root / "trials/trial-6", "weights"):
        assert weights == dict.fromkeys(TASKS, 1.0)


def test_a_final_model_trains_with_the_steered_weights(steered: tuple[Path, str]) -> None:
    root, printed = steered
    weights = read_weights(root / "response/weights-color.json")
    for used in steps(root / "final/steer-color", "weights"):
        assert used == pytest.approx(weights)
    equal, other = (root / "final" / name for name in ("ew", "steer-color"))
    assert steps(equal, "task_losses")[0] == steps(other, "task_losses")[0]
    assert steps(equal, "task_losses")[-1] != steps(other, "task_losses")[-1]
    assert method_label("steer:color") in printed
