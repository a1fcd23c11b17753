"""The features of the images of one run, in training and in answering."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from cotbal.training.features.store import Store
from cotbal.training.features.tower import Tower, identity_of

FOLDER = "image_features"


class ImageFeatures:
    """What frozen vision towers computed in this process, by their identity.

    Args:
        budget: bytes of the features in memory, and of the files of a tower; 0 keeps nothing.
        images: number of distinct images; if they exceed the budget, none is kept, so that the
            features of an image do not depend on which others were kept. 0: unknown.
        cache: directory in which runs share features; None keeps them in memory alone.
        report: receives a line for the log of the run.
    """

    def __init__(
        self,
        budget: int,
        images: int = 0,
        cache: Path | None = None,
        report: Callable[[str], None] = print,
    ) -> None:
        self._budget = budget
        self._images = images
        self._cache = cache
        self._report = report
        self._stores: dict[str, Store] = {}
        self._tower: Tower | None = None

    def attach(self, model: nn.Module, trained: bool = False, sharded: bool = False) -> None:
        """Let the vision tower of a model encode every image once, if that changes nothing.

        Args:
            trained: whether the model is about to be trained; a tower that is trained computes
                other features after every step.
            sharded: whether ranks hold parts of the tower, so that all must run it together.
        """
        self.save()
        if not self._budget:
            return
        tower = tower_of(model)
        reason = "the model is sharded over ranks" if sharded else _reason(tower, trained)
        if reason or tower is None:
            self._report(f"image features are not kept: {reason}")
            return
        identity = identity_of(tower)
        if identity not in self._stores:
            folder = None if self._cache is None else self._cache / FOLDER / identity[:32]
            self._stores[identity] = Store(self._budget, folder)
        store = self._stores[identity]
        self._tower = Tower(tower, store, self._refused, identity, self._images)

    def save(self) -> None:
        """Share what was computed since the last call, and report how often images were encoded."""
        if self._tower is None:
            return
        seen, encoded = self._tower.seen, self._tower.encoded
        if seen:
            self._report(f"image features: {encoded:,} images encoded, {seen:,} used")
        self._tower = None
        for store in self._stores.values():
            store.save()

    def _refused(self, reason: str) -> None:
        self._tower = None
        self._report(f"image features are not kept: of this vision tower, {reason}")


def tower_of(model: nn.Module) -> nn.Module | None:
    """The module that encodes images; None where that is the whole model."""
    inner: Any = getattr(model, "get_base_model", lambda: model)()
    encoder: nn.Module = inner.get_encoder(modality="image")
    return None if encoder in (inner, inner.base_model) else encoder


def _reason(tower: nn.Module | None, trained: bool) -> str | None:
    """Why the features of a tower are not kept."""
    if tower is None:
        return "the model has no vision tower of its own"
    if "forward" in vars(tower):
        return "another library has replaced the forward pass of the vision tower"
    if not trained:
        return None
    learnt = [name for name, parameter in tower.named_parameters() if parameter.requires_grad]
    if learnt:
        return f"{len(learnt)} parameters of the vision tower are trained, among them {learnt[0]}"
    checkpointing = "gradient_checkpointing"
    if any(m.training for m in tower.modules() if not getattr(m, checkpointing, False)):
        return "the vision tower is in training mode"
    return None
