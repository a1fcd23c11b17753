"""A run under FSDP2 or DeepSpeed ends as one that is not sharded: scores, log and merged
checkpoint.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands import launch
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file

import sharded_runs
from cotbal.benchmarks.releases.paper import FSDP2
from cotbal.data.records import default_cache, open_records
from cotbal.data.sampling import draw_portions, kept_records, write_manifest
from cotbal.jobs import worker
from cotbal.jobs.executors import STOPPED
from cotbal.jobs.launching import launched as launched_by
from cotbal.jobs.rundir import RunDir, read_jsonl, write_json
from cotbal.recipe.recipe import load_recipe
from cotbal.recipe.runs import plan_probes
from cotbal.recipe.schema import ResourcesSection
from tiny_vlm import mixture

# Two costly fixtures for all tests: they stay in one of the processes that share the tests out.
pytestmark = pytest.mark.xdist_group("sharded")

MODEL = "checkpoint: base, max_length: 120"
# Settings, and after how many questions of one rank whether to stop it says yes, if it does; then
# the run goes on.
CASES: dict[str, tuple[tuple[str, ...], int | None]] = {
    "full": ((), None),
    "lora": ((f"model={{{MODEL}, dtype: float32, language: lora, projector: full}}",), 3),
    # The last layer of the vision tower is never run, so no optimizer has a state of it.
    "vision": (
        (f"model={{{MODEL}, dtype: float32, vision: full}}", "optimization.packing=true"),
        3,
    ),
    "bfloat16": ((f"model={{{MODEL}, dtype: bfloat16, gradient_checkpointing: true}}",), None),
}
# Case and stage of ZeRO, 0 for FSDP2.
LAUNCHES = {f"{case} fsdp2": (case, 0) for case in CASES} | {
    "vision zero2": ("vision", 2),
    "full zero3": ("full", 3),
    "lora zero3": ("lora", 3),
    "bfloat16 zero3": ("bfloat16", 3),
}


def prepared(recipe_file: Path, root: Path, settings: tuple[str, ...]) -> Path:
    """The job file of the probe that sees one task in full, as the pipeline would leave it."""
    recipe = load_recipe(recipe_file, ("optimization.micro_batch_size=2", *settings))
    run = plan_probes(recipe.mixture).runs[1]
    paths = RunDir(root).probe(run.name)
    paths.root.mkdir(parents=True)
    (root / "portions").mkdir()
    (root / "recipe.yaml").write_text(recipe.to_yaml())
    for task in recipe.mixture.tasks:
        records = open_records(task.train, default_cache())
        kept, _ = kept_records(records, recipe.images, "error")
        portioned = draw_portions(kept, task.name, recipe.file.portions)
        write_manifest(RunDir(root).portions(task.name), records.ids(portioned.indices), portioned)
    job = {
        "root": str(root),
        "kind": "probe",
        "run": vars(run),
        "weights": None,
        "keep_checkpoint": True,
    }
    write_json(paths.job, job)
    return paths.job


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks about pictures, some records of which are text alone."""
    found = mixture(tmp_path_factory.mktemp("mixture") / "a", {"color": 1, "paint": 2}, train=28)
    records = found.parent / "data" / "color_train.jsonl"
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    for row in rows[8:]:
        del row["image"]
        row["conversations"][0]["value"] = row["conversations"][0]["value"].removeprefix(
            "<image>\n"
        )
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return found


@pytest.fixture(scope="module")
def alone(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The runs in one process."""
    directory = tmp_path_factory.mktemp("alone")
    jobs = {
        name: prepared(recipe, directory / name, settings) for name, (settings, _) in CASES.items()
    }
    for job in jobs.values():
        worker.main([str(job)])
    return {name: job.parent for name, job in jobs.items()}


@pytest.fixture(scope="module")
def launched(
    recipe: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Path], list[dict[str, Any]]]:
    """The same on two ranks, and what each of them tells of it."""
    directory = tmp_path_factory.mktemp("sharded")
    jobs = {
        name: prepared(recipe, directory / name, CASES[case][0])
        for name, (case, _) in LAUNCHES.items()
    }
    listed = []
    for name, (case, stage) in LAUNCHES.items():
        calls, job = CASES[case][1], str(jobs[name])
        listed += ([] if calls is None else [(job, calls, stage)]) + [(job, None, stage)]
    command = [sys.executable, sharded_runs.__file__, str(directory), json.dumps(listed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads((directory / f"rank{number}.json").read_text()) for number in range(2)]
    return {name: job.parent for name, job in jobs.items()}, told


def test_the_file_beside_the_paper_s_recipes_turns_it_on(tmp_path: Path) -> None:
    """What `accelerate launch` makes of it is what the ranks of this test find in their
    environment.
    """
    file = tmp_path / "accelerate.yaml"
    file.write_text(FSDP2)
    needs = ResourcesSection(gpus=8, accelerate_config=file)
    _, _, launcher, *options = launched_by(
        ("python", "-m", "cotbal.jobs.worker", "job.json"), needs
    )
    assert launcher == "accelerate.commands.launch"
    chosen, *_ = launch._validate_launch_command(launch.launch_command_parser().parse_args(options))
    found = prepare_multi_gpu_env(chosen)
    assert (
        found.items()
        >= {
            **sharded_runs.LAUNCHED,
            "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
        }.items()
    )
    assert (chosen.num_processes, chosen.num_machines) == (8, 1)


@pytest.mark.parametrize("launch", LAUNCHES)
def test_a_sharded_run_ends_as_a_whole_one(
    recipe: Path, alone: Any, launched: Any, launch: str
) -> None:
    case, stage = LAUNCHES[launch]
    one, two = alone[case], launched[0][launch]
    models = [load_file(path / "checkpoint" / "model.safetensors") for path in (one, two)]
    base = load_file(recipe.parent / "base" / "model.safetensors")
    assert models[0].keys() == models[1].keys() == base.keys()
    assert {n: (v.dtype, v.shape) for n, v in models[0].items()} == {
        n: (v.dtype, v.shape) for n, v in models[1].items()
    }
    moved, apart = (
        torch.cat(
            [(values.float() - other[name].float()).flatten() for name, values in models[0].items()]
        ).norm()
        for other in (base, models[1])
    )
    assert moved > 0.1
    assert apart / moved < (0.02 if case == "bfloat16" else 1e-5)
    logs = [read_jsonl(path / "training.jsonl") for path in (one, two)]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]
    for first, second in zip(*logs, strict=True):
        assert second["task_losses"] == pytest.approx(
            first["task_losses"], rel=0.02 if case == "bfloat16" else 1e-4
        )
        assert second["task_tokens"] == first["task_tokens"]
    checks = [json.loads((path / "outcome.json").read_text())["self_check"] for path in (one, two)]
    assert checks[0]["task"] == checks[1]["task"] or stage in (
        1,
        2,
    )  # each rank checks its own rows
    assert checks[1]["predicted"] > 0.01
    assert checks[1]["error"] < (0.1 if case == "bfloat16" else 1e-3)
    for kind in ("generations", "scores") if case != "bfloat16" else ():
        for file in sorted((one / kind).iterdir()):
            assert file.read_bytes() == (two / kind / file.name).read_bytes()


def test_parameters_are_shared_out(launched: Any) -> None:
    for told in launched[1]:
        found = dict(zip(LAUNCHES.items(), told["parts"], strict=True))
        assert all(
            (0.4 < part < 0.6) == (stage in (0, 3)) for (_, (_, stage)), part in found.items()
        )


def test_who_is_told_to_stop_saves_first_and_goes_on(launched: Any) -> None:
    """One rank is told; both stop, with a partial checkpoint of that step."""
    stopped = [CASES[case][1] is not None for case, _ in LAUNCHES.values()]
    expected = [step for stops in stopped for step in ((STOPPED, "done") if stops else ("done",))]
    assert [told["ended"] for told in launched[1]] == [expected, expected]


def test_micro_batches_of_text_get_a_blank_picture(alone: Any, launched: Any) -> None:
    """Without it one rank would wait forever for the other at the vision tower."""
    rows = [
        sum(line["masked_rows"] for line in read_jsonl(path / "training.jsonl"))
        for path in (alone["full"], launched[0]["full fsdp2"], launched[0]["full zero3"])
    ]
    assert rows[0] == 0
    assert rows[1] == rows[2] > 0
