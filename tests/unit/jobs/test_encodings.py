"""How often the runs of a plan use images, and what keeping their features saves."""

from __future__ import annotations

from pathlib import Path

import pytest

from cotbal.data.files import read_jsonl
from cotbal.jobs import pipeline
from cotbal.jobs.encodings import Encodings, encodings
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import load_recipe
from helpers.pipeline_fakes import TASKS, TEST, TRAIN, VALIDATION

IMAGES = 2  # of the mixture, in every third record
FINAL = 4 * -(-TRAIN // 3) + 4 * -(-TEST // 3)  # uses of a final run: four tasks


def encodings_of(path: Path, *overrides: str) -> Encodings:
    recipe = load_recipe(path, ("balance.replicates=1", *overrides))
    result = encodings(pipeline.plan(recipe, RunDir(path.parent / "run"), ("ew",)))
    assert result is not None
    return result


def test_uses_are_those_of_all_runs_and_images_are_encoded_once(recipe_path: Path) -> None:
    plan = pipeline.plan(load_recipe(recipe_path), RunDir(recipe_path.parent / "run"), ("ew",))
    minis = sum(
        "image" in read_jsonl(recipe_path.parent / f"{task}_train.jsonl")[index]
        for task in TASKS
        for index in plan.inputs.portions[task].of("mini").tolist()
    )
    answers = len(TASKS) * -(-VALIDATION // 3)
    large = len(TASKS) * -(-TRAIN // 3)
    # A mini and a probe per task: each task is large once and mini in all other probes.
    probes = minis * len(TASKS) + large + (len(TASKS) + 1) * answers
    result = encodings_of(recipe_path)
    assert (result.images, result.uses) == (IMAGES, probes + FINAL)
    assert result.saved == result.uses - IMAGES
    assert result.to_json()["saved"] == result.saved


def test_epochs_count_for_training_alone(recipe_path: Path) -> None:
    once, twice = (encodings_of(recipe_path, f"optimization.epochs={epochs}") for epochs in (1, 2))
    answers = 4 * len(TASKS) * -(-VALIDATION // 3) + 4 * -(-TEST // 3)
    assert twice.uses - once.uses == once.uses - answers


@pytest.mark.parametrize(
    ("override", "note"),
    [("resources.image_features=off", "is off"), ("model.vision=lora", "model.vision is lora")],
)
def test_nothing_is_saved_without_features(recipe_path: Path, override: str, note: str) -> None:
    result = encodings_of(recipe_path, override)
    assert result.saved == 0
    assert note in result.sentence()


def test_probes_may_keep_features_alone(recipe_path: Path) -> None:
    result = encodings_of(recipe_path, "model.vision=full", "probes={model: {vision: frozen}}")
    assert result.saved == result.uses - FINAL - IMAGES
