"""What a configuration of accelerate may ask for: read from its file, and in a rank from its
environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands import launch
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from cotbal.benchmarks.releases.paper import FSDP2
from cotbal.data.checks.check import check_mixture
from cotbal.errors import RecipeError
from cotbal.jobs.launching import launched
from cotbal.jobs.pipeline import plan
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.accelerate_file import Sharing, of_environment, of_file, problem_of
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.schema import ResourcesSection
from helpers.errors import raises
from helpers.tiny_vlm import mixture

FSDP: dict[str, Any] = yaml.safe_load(FSDP2)
ZERO: dict[str, Any] = {
    "distributed_type": "DEEPSPEED",
    "deepspeed_config": {
        "zero_stage": 2,
        "offload_optimizer_device": "none",
        "offload_param_device": "none",
    },
}
REFUSED = {
    "fsdp_version": {
        **FSDP,
        "fsdp_config": {**FSDP["fsdp_config"], "fsdp_version": 1},
    },
    "fsdp_offload_params": {
        **FSDP,
        "fsdp_config": {**FSDP["fsdp_config"], "fsdp_offload_params": True},
    },
    "zero_stage": {
        **ZERO,
        "deepspeed_config": {"zero_stage": 0},
    },
    "offload_optimizer_device": {
        **ZERO,
        "deepspeed_config": {"zero_stage": 3, "offload_optimizer_device": "cpu"},
    },
    "deepspeed_config_file": {
        **ZERO,
        "deepspeed_config": {"deepspeed_config_file": "zero.json"},
    },
}


def written(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def in_a_rank(file: Path) -> dict[str, str]:
    """The environment that `accelerate launch` makes of a file."""
    _, _, _, *options = launched(
        ("python", "-m", "cotbal.jobs.worker", "job.json"), ResourcesSection(accelerate_config=file)
    )
    chosen, defaults, _ = launch._validate_launch_command(
        launch.launch_command_parser().parse_args(options)
    )
    if not chosen.use_deepspeed:
        answer: dict[str, str] = prepare_multi_gpu_env(chosen)
        return answer
    chosen.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    return prepare_deepspeed_cmd_env(chosen)[1]


def test_what_is_taken(tmp_path: Path) -> None:
    for content in (FSDP, ZERO, {"distributed_type": "MULTI_GPU"}):
        sharding = of_file(written(tmp_path / "accelerate.yaml", content))
        assert problem_of(sharding) is None
        assert sharding.by == {"FSDP": "fsdp", "DEEPSPEED": "deepspeed"}.get(
            content["distributed_type"]
        )


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_refused(tmp_path: Path, field: str) -> None:
    problem = problem_of(of_file(written(tmp_path / "accelerate.yaml", REFUSED[field])))
    assert problem is not None
    assert problem.startswith("resources.accelerate_config: ")
    assert field in problem


@pytest.mark.parametrize("content", [FSDP, ZERO, *REFUSED.values()])
def test_a_rank_gets_the_same(tmp_path: Path, content: dict[str, Any]) -> None:
    file = written(tmp_path / "accelerate.yaml", content)
    assert of_file(file).by is not None
    if content.get("deepspeed_config", {}).get("deepspeed_config_file"):  # accelerate reads it
        written(tmp_path / "zero.json", {"zero_optimization": {"stage": 2}})
        content["deepspeed_config"] = {"deepspeed_config_file": str(tmp_path / "zero.json")}
        written(file, content)
    assert problem_of(of_environment(in_a_rank(file))) == problem_of(of_file(file))


def test_four_bits_are_not_sharded() -> None:
    assert problem_of(Sharing(None), quantized=True) is None
    for sharing in (Sharing("fsdp", "2"), Sharing("deepspeed", zero_stage="3")):
        assert str(problem_of(sharing, quantized=True)).startswith("model.quantization: ")


def test_sharded_layers_are_not_compiled() -> None:
    assert problem_of(Sharing(None), compiled=True) is None
    for sharing in (Sharing("fsdp", "2"), Sharing("deepspeed", zero_stage="3")):
        assert str(problem_of(sharing, compiled=True)).startswith("model.compile: ")


def test_no_file(tmp_path: Path) -> None:
    with raises(RecipeError, "missing-file", tmp_path / "accelerate.yaml"):
        of_file(tmp_path / "accelerate.yaml")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Its probes are started otherwise than its final runs, in a way that is refused."""
    path = mixture(tmp_path / "a", {"color": 1, "paint": 2})
    written(path.parent / "good.yaml", ZERO)
    written(
        path.parent / "bad.yaml",
        REFUSED["zero_stage"],
    )
    probes = "probes={resources: {accelerate_config: bad.yaml}}"
    return load_recipe(path, ["resources={gpus: 2, accelerate_config: good.yaml}", probes])


def test_it_is_seen_before_anything_is_sent(recipe: Recipe, tmp_path: Path) -> None:
    problems = check_mixture(recipe, tmp_path / "cache").problems
    assert [(problem.file.name, problem.number) for problem in problems] == [("bad.yaml", 0)]
    assert "zero_stage" in problems[0].message
    with raises(RecipeError, "unsupported-sharding", "zero_stage"):
        plan(recipe, RunDir(tmp_path / "run"))


@pytest.mark.parametrize("section", ["fsdp", "deepspeed"])
def test_a_section_that_is_none(tmp_path: Path, section: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"distributed_type: {section}\n{section}_config: text\n")
    with raises(RecipeError, "wrong-type", path, f"{section}_config"):
        of_file(path)
