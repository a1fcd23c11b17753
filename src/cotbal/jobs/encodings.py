"""How often the runs of a plan use an image, and what it saves to keep its features."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cotbal.jobs.inputs import sets_of
from cotbal.jobs.plan import Planned, Prepared
from cotbal.recipe.mixture import TRAIN, set_name
from cotbal.recipe.recipe import Recipe

# Families, and towers of them, that give every patch of an image of one size a vector.
FAMILIES = frozenset({"llava", "vipllava"})
TOWERS = frozenset({"clip_vision_model", "siglip_vision_model"})
BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Encodings:
    """Images that go through a vision tower.

    Attributes:
        images: distinct images of all runs.
        uses: how often they are trained on or asked about.
        saved: uses without an encoding, if the features of all images of a run fit; 0 for runs
            whose features certainly do not. Runs that begin at the same time save less.
        note: what is kept, or why nothing is.
    """

    images: int
    uses: int
    saved: int
    note: str

    def sentence(self) -> str:
        """What is encoded how often."""
        return (
            f"{self.images:,} images are used {self.uses:,} times, of which {self.saved:,} need no"
            f" encoding: {self.note}"
        )

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return vars(self)


def encodings(prepared: Prepared) -> Encodings | None:
    """Of all runs of a plan; None for a recipe without a model, or without images."""
    if prepared.recipe.file.model is None:
        return None
    runs = prepared.plan.runs
    images = _Images(prepared)
    uses = sum(images.uses(planned) for planned in runs)
    if not uses:
        return None
    frozen = [planned for planned in runs if _keeps(prepared, planned)]
    recipes = {planned.kind: prepared.recipe_of(planned) for planned in frozen}
    least = {kind: least_bytes(recipe) for kind, recipe in recipes.items()}
    kept: list[Planned] = []
    lost: list[int] = []  # bytes of the features of runs that keep none
    for planned in frozen:
        needed = images.distinct([planned]) * least[planned.kind]
        if needed <= recipes[planned.kind].resources.feature_bytes:
            kept.append(planned)
        else:
            lost.append(needed)
    used = sum(images.uses(planned) for planned in kept)
    saved = max(0, used - images.distinct(kept))
    return Encodings(images.distinct(runs), uses, saved, _note(prepared) + _lost(lost))


def least_bytes(recipe: Recipe) -> int:
    """Bytes that the features of an image take at least: those of one layer of the tower. 0 where
    the configuration of the checkpoint does not show them.
    """
    try:
        content = json.loads((Path(recipe.checkpoint) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a name on the hub, or an error of the check of checkpoints
        return 0
    tower = content.get("vision_config") if isinstance(content, dict) else None
    if not isinstance(tower, dict) or content.get("model_type") not in FAMILIES:
        return 0
    pixels, patch, width = (
        tower.get(name, 0) for name in ("image_size", "patch_size", "hidden_size")
    )
    known = all(type(size) is int and size > 0 for size in (pixels, patch, width))
    if not known or tower.get("model_type") not in TOWERS:
        return 0
    return int((pixels // patch) ** 2 * width * BYTES[recipe.model.dtype])


def _keeps(prepared: Prepared, planned: Planned) -> bool:
    recipe = prepared.recipe_of(planned)
    return recipe.model.vision == "frozen" and recipe.resources.feature_bytes > 0


def _note(prepared: Prepared) -> str:
    recipe, size = prepared.recipe, prepared.recipe.resources.image_features
    if not recipe.resources.feature_bytes:
        return "resources.image_features is off"
    if recipe.model.vision != "frozen":
        return f"model.vision is {recipe.model.vision}, so features change with every step"
    return (
        "the frozen vision tower encodes each once if the features of all images of a run fit into"
        f" resources.image_features ({size}); logs of runs report what was kept"
    )


def _lost(needed: Sequence[int]) -> str:
    """How many runs certainly keep nothing.

    Args:
        needed: bytes that the features of the images of each of these runs take at least.
    """
    if not needed:
        return ""
    runs = "1 run does" if len(needed) == 1 else f"{len(needed):,} runs do"
    return f". Those of {runs} not: they take {max(needed) / 2**30:,.1f} GiB or more"


# Task, split and portion: records that runs share. The portion of an evaluation set is "".
_Part = tuple[str, str, str]


class _Images:
    """Images of the runs of a plan. Each part of the mixture is looked at once, however many runs
    use it: T probes use the mini of a task.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.numbers: dict[str, int] = {}  # of images, by name
        self.of_part: dict[_Part, tuple[float, np.ndarray]] = {}

    def uses(self, planned: Planned) -> int:
        """How often a run trains on or is asked about an image."""
        return round(sum(self._part(part)[0] for part in self._parts(planned)))

    def distinct(self, runs: Sequence[Planned]) -> int:
        """Number of images that these runs use."""
        parts = {part for planned in runs for part in self._parts(planned)}
        numbers = [self._part(part)[1] for part in parts]
        is_used = np.zeros(len(self.numbers), bool)
        for of_part in numbers:
            is_used[of_part] = True
        return int(is_used.sum())

    def _parts(self, planned: Planned) -> Iterator[_Part]:
        run = planned.run
        for task, split in sets_of(self.prepared.recipe, run):
            yield task, split, run.portions[task] if split == TRAIN else ""

    def _part(self, part: _Part) -> tuple[float, np.ndarray]:
        """Uses of images in a run, and the numbers of its images; shape [images]."""
        if part not in self.of_part:
            task, split, portion = part
            key, inputs = set_name(task, split), self.prepared.inputs
            records = inputs.opened[key]
            indices = inputs.portions[task].of(portion) if portion else inputs.kept[key]
            passes = self.prepared.plan.epochs if split == TRAIN else 1
            names = records.image_names(indices)
            numbers = [self.numbers.setdefault(name, len(self.numbers)) for name in names]
            uses = passes * int(records.image_counts()[indices].sum())
            self.of_part[part] = uses, np.array(numbers, int)
        return self.of_part[part]
