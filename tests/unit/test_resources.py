"""The section `resources`: what a run needs of its place, and that no run is identified by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cotbal.errors import RecipeError
from cotbal.recipe.recipe import Recipe, load_recipe
from helpers.errors import raises

MINIMAL = """\
name: pocket
tasks:
  vqa: {train: data/vqa_train.jsonl, validation: data/vqa_validation.jsonl}
"""
NEEDS = (
    "resources={gpus: 16, nodes: 2, cpus: 32, memory: 400G, hours: 12, partition: a100, directives:"
    " [--account=lab, --constraint=nvlink], setup: [module load cuda], accelerate_config:"
    " fsdp.yaml}"
)


def load(directory: Path, *overrides: str) -> Recipe:
    path = directory / "recipe.yaml"
    path.write_text(MINIMAL)
    return load_recipe(path, overrides)


def test_a_run_takes_one_gpu_by_default(tmp_path: Path) -> None:
    needs = load(tmp_path).resources
    assert (needs.gpus, needs.nodes, needs.processes, needs.hours) == (1, 1, 1, None)


@pytest.mark.parametrize(
    ("section", "processes"),
    [
        ("{gpus: 4}", 4),
        ("{gpus: 0}", 1),
        ("{gpus: 0, ranks: 3}", 3),
        ("{gpus: 8, nodes: 2, ranks: 8}", 8),
    ],
)
def test_there_is_one_process_a_gpu(tmp_path: Path, section: str, processes: int) -> None:
    assert load(tmp_path, f"resources={section}").resources.processes == processes


def test_probes_may_take_less(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        NEEDS,
        "probes={resources: {gpus: 1, nodes: 1, hours: 2, accelerate_config: null}}",
    )
    assert (recipe.resources.gpus, recipe.for_probes.resources.gpus) == (16, 1)
    assert recipe.for_probes.resources.memory == "400G"
    assert recipe.for_probes.resources.accelerate_config is None


@pytest.mark.parametrize(
    ("size", "expected"), [("auto", 2**30), ("off", 0), ("300M", 300 * 2**20), ("2T", 2**41)]
)
def test_image_features_have_a_budget_in_bytes(tmp_path: Path, size: str, expected: int) -> None:
    recipe = load(tmp_path, f"resources.image_features={size}")
    assert recipe.resources.feature_bytes == expected


def test_two_recipes_that_differ_in_resources_alone_are_one(tmp_path: Path) -> None:
    plain, rich = load(tmp_path), load(tmp_path, NEEDS)
    assert plain.fingerprint == rich.fingerprint
    probes = "probes={optimization: {epochs: 2}}"
    cheaper = "probes={optimization: {epochs: 2}, resources: {hours: 1}}"
    assert (
        load(tmp_path, probes).fingerprint
        == load(tmp_path, cheaper).fingerprint
        != plain.fingerprint
    )


def test_the_resolved_recipe_holds_them_with_whole_paths(tmp_path: Path) -> None:
    changed = "probes={resources: {accelerate_config: ddp.yaml}}"
    recipe = load(tmp_path, NEEDS, changed)
    resolved = tmp_path / "elsewhere" / "recipe.yaml"
    resolved.parent.mkdir()
    resolved.write_text(recipe.to_yaml())
    again = load_recipe(resolved)
    assert again.resources == recipe.resources
    assert again.resources.accelerate_config == tmp_path / "fsdp.yaml"
    assert again.for_probes.resources.accelerate_config == tmp_path / "ddp.yaml"


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"gpus": 3, "nodes": 2}, "gpus must be a multiple of nodes; found 3 on 2 nodes"),
        ({"gpus": 0, "ranks": 3, "nodes": 2}, "ranks must be a multiple of nodes"),
        ({"gpus": 2, "ranks": 4}, "one process per GPU; leave out ranks, or set gpus: 0"),
        ({"memory": "64 GB"}, "resources.memory"),
        ({"directives": ["account=lab"]}, "resources.directives.0"),
        (
            {"directives": ["--array=0-3"]},
            "--array=0-3 is not for directives: every run is one job",
        ),
        ({"directives": ["--job=x"]}, "--job=x is not for directives"),
        ({"directives": ["--account=lab\n#SBATCH --nodes=9"]}, "resources.directives.0"),
        ({"hours": 0}, "resources.hours"),
        ({"gpu": 1}, "did you mean 'gpus'"),
    ],
)
def test_problems(tmp_path: Path, section: dict[str, Any], named: str) -> None:
    with raises(RecipeError, "invalid-recipe", named):
        load(tmp_path, f"resources={json.dumps(section)}")
