"""How often the runs of a plan use images, and what keeping their features saves."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from cotbal.data.files import read_jsonl
from cotbal.data.reading.records import Records
from cotbal.jobs import pipeline
from cotbal.jobs.encodings import Encodings, encodings, least_bytes
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.recipe import load_recipe
from cotbal.training import vlm
from cotbal.training.features.images import ImageFeatures
from helpers.pipeline_fakes import TASKS, TEST, TRAIN, VALIDATION
from helpers.tiny_vlm import mixture

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


def test_what_runs_share_is_looked_at_once(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T + 1 probes use T minis: a file per run and task would be T^2 of them."""
    looked: list[tuple[str, int]] = []
    names = Records.image_names

    def noted(self: Records, indices: np.ndarray | None = None) -> list[str]:
        looked.append((self.digest, len(self if indices is None else indices)))
        return names(self, indices)

    plan = pipeline.plan(load_recipe(recipe_path), RunDir(recipe_path.parent / "run"), ("ew",))
    monkeypatch.setattr(Records, "image_names", noted)
    assert encodings(plan) is not None
    assert len(looked) > len(TASKS)
    most = max(Counter(looked).values())
    assert most <= 2, "all records are the portions large and full"


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


def write_tower(home: Path, width: int, **other: object) -> None:
    """A configuration of a LLaVA whose tower makes 4 patches of an image."""
    vision = {"model_type": "clip_vision_model", "image_size": 48, "patch_size": 24}
    content = {"model_type": "llava", "vision_config": {**vision, "hidden_size": width, **other}}
    (home / "base").mkdir(exist_ok=True)
    (home / "base" / "config.json").write_text(json.dumps(content))


def test_nothing_is_saved_where_features_certainly_do_not_fit(recipe_path: Path) -> None:
    write_tower(recipe_path.parent, width=2**26)  # 1 GiB per image in float32
    fits = encodings_of(recipe_path, "resources.image_features=4G")
    assert fits.saved == fits.uses - IMAGES
    assert "if the features of all images of a run fit" in fits.sentence()
    lost = encodings_of(recipe_path, "resources.image_features=1M")
    assert lost.saved == 0
    assert "GiB or more" in lost.sentence()


@pytest.mark.parametrize(
    "other", [{"model_type": "pixtral"}, {"image_size": None}, {"patch_size": [24, 24]}]
)
def test_features_of_unknown_size_may_fit(recipe_path: Path, other: dict[str, object]) -> None:
    write_tower(recipe_path.parent, width=2**26, **other)
    result = encodings_of(recipe_path, "resources.image_features=1M")
    assert result.saved == result.uses - IMAGES
    assert "GiB or more" not in result.sentence()


def test_the_least_size_is_one_that_a_tower_exceeds(tmp_path: Path) -> None:
    recipe = load_recipe(mixture(tmp_path / "data", {"color": 1}))
    model, _ = vlm.load(recipe.checkpoint, "float32", remote_code=False)
    features = ImageFeatures(2**30)
    features.attach(model.eval())
    with torch.no_grad():
        model.get_image_features(pixel_values=torch.rand(3, 3, 48, 48))
    (store,) = features._stores.values()
    assert 0 < 3 * least_bytes(recipe) <= store.bytes
    assert least_bytes(recipe) == 36 * 16 * 4


def test_probes_may_keep_features_alone(recipe_path: Path) -> None:
    result = encodings_of(recipe_path, "model.vision=full", "probes={model: {vision: frozen}}")
    assert result.saved == result.uses - FINAL - IMAGES
