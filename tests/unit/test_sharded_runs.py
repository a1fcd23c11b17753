"""A run under FSDP2 or DeepSpeed ends as one that is not sharded: scores, log and merged
checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands import launch
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file

from cotbal.benchmarks.releases.paper import FSDP2
from cotbal.data.files import default_cache, read_jsonl, write_json
from cotbal.data.reading.records import open_records
from cotbal.data.sampling import draw_portions, kept_records, write_manifest
from cotbal.jobs import worker
from cotbal.jobs.executors import STOPPED
from cotbal.jobs.launching import launched as launched_by
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import load_recipe
from cotbal.recipe.runs import plan_probes
from cotbal.recipe.schema import ResourcesSection
from helpers import sharded_runs
from helpers.planned_jobs import planned
from helpers.shell import script
from helpers.tiny_vlm import mixture

MODEL = "checkpoint: base, max_length: 120"
# Settings, and after how many questions of one rank whether to stop it says yes, if it does; then
# the run resumes.
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
# Relative distance of the trained models; 2e-7 was seen of the other cases. The tower's gradients
# are small, so that Adam enlarges their rounding: 4e-6 with all logits, 1.1e-5 with the head in
# chunks.
APART = {"vision": 3e-5, "bfloat16": 0.02}
# Case and stage of ZeRO, 0 for FSDP2.
LAUNCHES = {f"{case} fsdp2": (case, 0) for case in CASES} | {
    "vision zero2": ("vision", 2),
    "full zero3": ("full", 3),
    "lora zero3": ("lora", 3),
    "bfloat16 zero3": ("bfloat16", 3),
}
# Weights in full, text alone, before ZeRO, adapters and stops, which take minutes.
FIRST = ("full fsdp2",)
REST = tuple(name for name in LAUNCHES if name not in FIRST)
SETS = [
    pytest.param(FIRST, id="first", marks=pytest.mark.extended),
    pytest.param(REST, id="rest", marks=pytest.mark.extended),
]
BLANKS = 9  # rows of a blank image, or that fill up the last round, in the case `full`


def prepared(recipe_file: Path, root: Path, settings: tuple[str, ...]) -> Path:
    """The job file of the probe that sees one task in full, as the pipeline would leave it."""
    recipe = load_recipe(recipe_file, ("optimization.micro_batch_size=2", *settings))
    run = plan_probes(recipe.mixture)[1]
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
    write_json(paths.job, planned(job))
    return paths.job


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks about images, some records of which are text alone."""
    file = mixture(tmp_path_factory.mktemp("mixture") / "a", {"color": 1, "paint": 2}, train=28)
    records = file.parent / "data" / "color_train.jsonl"
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    for row in rows[8:]:
        del row["image"]
        row["conversations"][0]["value"] = row["conversations"][0]["value"].removeprefix(
            "<image>\n"
        )
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def alone(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a case in one process."""
    directory = tmp_path_factory.mktemp("alone")

    @cache
    def run(case: str) -> Path:
        job = prepared(recipe, directory / case, CASES[case][0])
        worker.main([str(job)])
        return job.parent

    return run


@dataclass(frozen=True)
class Launched:
    """Runs on two ranks: the directories by the name of the launch, and what each rank wrote."""

    runs: dict[str, Path]
    ranks: list[dict[str, Any]]


@pytest.fixture(scope="module")
def launch_all(
    recipe: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[tuple[str, ...]], Launched]:
    """Some of the launches, all in one pair of processes, once."""
    return cache(lambda names: _launched(names, recipe, tmp_path_factory.mktemp("sharded")))


def _launched(names: tuple[str, ...], recipe: Path, directory: Path) -> Launched:
    jobs = {name: prepared(recipe, directory / name, CASES[LAUNCHES[name][0]][0]) for name in names}
    listed = []
    for name in names:
        case, stage = LAUNCHES[name]
        calls, job = CASES[case][1], str(jobs[name])
        listed += ([] if calls is None else [(job, calls, stage)]) + [(job, None, stage)]
    script(sharded_runs.__file__, directory, json.dumps(listed))
    ranks = [json.loads((directory / f"rank{number}.json").read_text()) for number in range(2)]
    return Launched({name: job.parent for name, job in jobs.items()}, ranks)


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
    variables = prepare_multi_gpu_env(chosen)
    assert (
        variables.items()
        >= {
            **sharded_runs.LAUNCHED,
            "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
        }.items()
    )
    assert (chosen.num_processes, chosen.num_machines) == (8, 1)


@pytest.mark.parametrize("names", SETS)
def test_a_sharded_run_ends_as_a_whole_one(
    recipe: Path,
    alone: Callable[[str], Path],
    launch_all: Callable[[tuple[str, ...]], Launched],
    names: tuple[str, ...],
) -> None:
    for name, sharded in launch_all(names).runs.items():
        case, stage = LAUNCHES[name]
        assert_ends_the_same(recipe, alone(case), sharded, case, stage)


def assert_ends_the_same(recipe: Path, one: Path, two: Path, case: str, stage: int) -> None:
    """The runs of a case in one process and on two ranks."""
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
    assert apart / moved < APART.get(case, 1e-6)
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


@pytest.mark.parametrize("names", SETS)
def test_parameters_are_sharded(
    launch_all: Callable[[tuple[str, ...]], Launched], names: tuple[str, ...]
) -> None:
    launched = launch_all(names)
    for rank in launched.ranks:
        for name, part in zip(launched.runs, rank["parts"], strict=True):
            _, stage = LAUNCHES[name]
            assert (0.4 < part < 0.6) == (stage in (0, 3)), name


@pytest.mark.parametrize("names", SETS)
def test_a_stopped_run_saves_first_and_resumes(
    launch_all: Callable[[tuple[str, ...]], Launched], names: tuple[str, ...]
) -> None:
    """One rank receives the signal; both stop, with a partial checkpoint of that step."""
    launched = launch_all(names)
    expected: list[Any] = []
    for name in launched.runs:
        case, _ = LAUNCHES[name]
        expected += ["done"] if CASES[case][1] is None else [STOPPED, "done"]
    assert [rank["ended"] for rank in launched.ranks] == [expected, expected]


@pytest.mark.parametrize("names", SETS)
def test_micro_batches_of_text_get_a_blank_image(
    alone: Callable[[str], Path],
    launch_all: Callable[[tuple[str, ...]], Launched],
    names: tuple[str, ...],
) -> None:
    """Without it one rank would wait forever for the other at the vision tower."""
    runs = {
        name: path for name, path in launch_all(names).runs.items() if LAUNCHES[name][0] == "full"
    }
    assert masked_rows(alone("full")) == 0
    assert [masked_rows(path) for path in runs.values()] == [BLANKS]


def masked_rows(run: Path) -> int:
    return sum(line["masked_rows"] for line in read_jsonl(run / "training.jsonl"))
