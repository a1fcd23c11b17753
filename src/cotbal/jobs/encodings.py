"""How often the runs of a plan use an image, and what it saves to keep its features."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from cotbal.jobs.inputs import sets_of
from cotbal.jobs.plan import Planned, Prepared
from cotbal.recipe.mixture import TRAIN, set_name


@dataclass(frozen=True)
class Encodings:
    """Images that go through a vision tower.

    Attributes:
        images: distinct images of all runs.
        uses: how often they are trained on or asked about.
        saved: uses without an encoding, if features are kept and fit; runs that begin at the same
            time save less.
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
    kept = [planned for planned in prepared.plan.runs if _keeps(prepared, planned)]
    uses = sum(_uses(prepared, planned) for planned in prepared.plan.runs)
    if not uses:
        return None
    used = sum(_uses(prepared, planned) for planned in kept)
    saved = max(0, used - len(_names(prepared, kept)))
    return Encodings(len(_names(prepared, prepared.plan.runs)), uses, saved, _note(prepared))


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
        f"the frozen vision tower encodes each once (resources.image_features: {size}); logs of"
        " runs report what was kept"
    )


def _uses(prepared: Prepared, planned: Planned) -> int:
    total, inputs = 0.0, prepared.inputs
    for task, split in sets_of(prepared.recipe, planned.run):
        counts = inputs.opened[set_name(task, split)].image_counts()
        passes = prepared.plan.epochs if split == TRAIN else 1
        used = inputs.used(planned.run, task, split)
        total += passes * int(counts[used].sum())
    return round(total)


def _names(prepared: Prepared, runs: list[Planned] | tuple[Planned, ...]) -> set[str]:
    """The images that these runs use."""
    inputs = prepared.inputs
    chosen = defaultdict[str, list[np.ndarray]](list)
    for run in (planned.run for planned in runs):
        for task, split in sets_of(prepared.recipe, run):
            chosen[set_name(task, split)].append(inputs.used(run, task, split))
    names: set[str] = set()
    for key, indices in chosen.items():
        names.update(inputs.opened[key].image_names(np.concatenate(indices)))
    return names
