"""`--report-to`: the probes of a job stand together, with the losses and weights of every task."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.errors import names_all
from helpers.shell import cotbal
from helpers.tiny_vlm import mixture

pytestmark = pytest.mark.extended

TASKS = {"color": 1, "paint": 2}
PROBES = ("mini", "full:color", "full:paint")
STAND_INS = Path(__file__).parents[1] / "helpers" / "stand_ins"


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reported")
    recipe = mixture(root / "data", TASKS)
    trackers = [
        word for name in ("tensorboard", "wandb", "trackio") for word in ("--report-to", name)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKER_CALLS", str(root / "calls.jsonl"))
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(STAND_INS), os.environ.get("PYTHONPATH", "")])
        )
        cotbal("balance", recipe, "--out", root / "job", "--on", "inline", *trackers)
    return root


def calls(root: Path, tracker: str, call: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (root / "calls.jsonl").read_text().splitlines()]
    return [line for line in lines if (line["tracker"], line["call"]) == (tracker, call)]


def test_tensorboard_holds_every_figure_of_every_probe(reported: Path) -> None:
    for probe in ("mini", "full-color", "full-paint"):
        directory = reported / "job" / "probes" / probe
        events = EventAccumulator(str(directory / "tensorboard"))
        events.Reload()
        lines = [
            json.loads(line) for line in (directory / "training.jsonl").read_text().splitlines()
        ]
        for figure in ("task_losses", "task_tokens", "weights"):
            for task in TASKS:
                seen = [
                    (event.step, event.value) for event in events.Scalars(f"train/{figure}/{task}")
                ]
                logged = [
                    (line["step"], line[figure][task]) for line in lines if task in line[figure]
                ]
                assert logged
                assert [step for step, _ in seen] == [step for step, _ in logged]
                assert [value for _, value in seen] == pytest.approx([value for _, value in logged])


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_probes_are_runs_of_one_project(reported: Path, tracker: str) -> None:
    begun = calls(reported, tracker, "init")
    assert [line["project"] for line in begun] == ["tiny"] * 3
    assert sorted(line["name"] for line in begun) == sorted(f"job/{probe}" for probe in PROBES)
    assert len(calls(reported, tracker, "finish")) == 3
    values = calls(reported, tracker, "log")[0]["values"]
    assert {
        f"train/{figure}/{task}" for figure in ("task_losses", "weights") for task in TASKS
    } <= values.keys()


def test_wandb_groups_them_and_would_resume_each(reported: Path) -> None:
    environments = [line["environment"] for line in calls(reported, "wandb", "init")]
    assert {
        (line["WANDB_RUN_GROUP"], line["WANDB_JOB_TYPE"], line["WANDB_RESUME"])
        for line in environments
    } == {("job", "probe", "allow")}
    assert len({line["WANDB_RUN_ID"] for line in environments}) == 3


def test_reporting_is_no_part_of_what_identifies_a_run(reported: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in reported.rglob("outcome.json")}
    cotbal(
        "balance", reported / "data" / "recipe.yaml", "--out", reported / "job", "--on", "inline"
    )
    assert {path: path.stat().st_mtime_ns for path in reported.rglob("outcome.json")} == before
    assert "tensorboard" not in (reported / "job" / "recipe.yaml").read_text()


def test_an_unknown_tracker_is_refused_before_anything_starts(
    reported: Path, tmp_path: Path
) -> None:
    recipe = reported / "data" / "recipe.yaml"
    said = cotbal("balance", recipe, "--out", tmp_path / "job", "--report-to", "diary", code=2)
    assert names_all(said, "--report-to", "tensorboard, wandb, trackio", "'diary'")
    assert not (tmp_path / "job" / "probes").exists()
