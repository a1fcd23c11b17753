"""The features of the images of one run, in training and in answering."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from torch import nn

from cotbal.data.files import default_cache, owner
from cotbal.recipe.recipe import Recipe
from cotbal.training import vlm
from cotbal.training.features.calls import Unsupported
from cotbal.training.features.layers import LayersOfTower
from cotbal.training.features.store import Store
from cotbal.training.features.tower import Tower, identity_of
from cotbal.training.ranks import Ranks
from cotbal.training.vlm import Part

FOLDER = "image_features"


class ImageFeatures:
    """What frozen vision towers computed in this process, by their identity.

    Args:
        budget: bytes of the features in memory, and of the files of a tower; 0 keeps nothing.
        images: number of distinct images; if they exceed the budget, none is kept, so that the
            features of an image do not depend on which others were kept. 0: unknown.
        trained: parts of the model that runs train, see `cotbal.training.vlm.parts`.
        cache: directory in which runs share features; None keeps them in memory alone.
        report: receives a line for the log of the run.
    """

    def __init__(
        self,
        budget: int,
        images: int = 0,
        trained: Collection[Part] = (),
        cache: Path | None = None,
        report: Callable[[str], None] = print,
    ) -> None:
        self._budget = budget
        self.images = images
        self._trained = trained
        self._cache = None if "vision" in trained else cache
        self._report = report
        self._stores: dict[str, Store] = {}
        self._tower: Tower | None = None

    def attach(self, model: nn.Module, training: bool = False, sharded: bool = False) -> None:
        """Let the vision tower of a model encode every image once, if that changes nothing.

        Args:
            training: whether the model is about to be trained; a tower that is trained computes
                other features after every step.
            sharded: whether ranks hold parts of the tower, so that all must run it together.
        """
        self.save()
        if not self._budget:
            return
        tower = tower_of(model)
        if tower is None:
            self._report("image features are not kept: the model has no vision tower of its own")
            return
        learnt = self._learnt(model, tower)
        if reason := _reason(tower, learnt if training else None, sharded):
            self._report(f"image features are not kept: {reason}")
            return
        try:
            self._tower = self._attached(tower, learnt)
        except Unsupported as error:
            self._unsupported(str(error))

    def save(self) -> None:
        """Share what was computed since the last call, and report how often images were encoded."""
        if self._tower is None:
            return
        seen, encoded = self._tower.seen, self._tower.encoded
        if seen:
            self._report(f"image features: {encoded:,} images encoded, {seen:,} used")
        self._tower = None
        try:
            for store in self._stores.values():
                store.save()
        except OSError as error:  # a full disk must not end a run
            self._report(f"image features are not shared: {error}")

    def _attached(self, tower: nn.Module, learnt: Collection[int]) -> Tower:
        identity = identity_of(tower, learnt)
        if identity not in self._stores:
            name = f"{identity[:32]}{owner()}"
            folder = None if self._cache is None else self._cache / FOLDER / name
            self._stores[identity] = Store(self._budget, folder)
        settings = (tower, self._stores[identity], self._unsupported, identity, self.images)
        return LayersOfTower(*settings, learnt=learnt) if learnt else Tower(*settings)

    def _learnt(self, model: nn.Module, tower: nn.Module) -> set[int]:
        """Ids of the parameters of a projector inside the tower, if runs train it."""
        if "projector" not in self._trained or "vision" in self._trained:
            return set()
        part_of = vlm.parts(model)
        inside = {id(parameter) for parameter in tower.parameters()}
        of_projector = set()
        for name, parameter in model.named_parameters():
            if part_of[name] == "projector":
                of_projector.add(id(parameter))
        return of_projector & inside

    def _unsupported(self, reason: str) -> None:
        self._tower = None
        self._report(f"image features are not kept: of this vision tower, {reason}")


def image_features(recipe: Recipe, images: int, ranks: Ranks) -> ImageFeatures:
    """Those of a run that uses so many distinct images; the features of a tower that is not trained
    are shared with other runs.
    """
    return ImageFeatures(
        recipe.resources.feature_bytes,
        images,
        vlm.trained_parts(recipe.model),
        default_cache(),
        print if ranks.main else lambda _: None,
    )


def tower_of(model: nn.Module) -> nn.Module | None:
    """The module that encodes images; None where that is the whole model."""
    inner: Any = getattr(model, "get_base_model", lambda: model)()
    encoder: nn.Module = inner.get_encoder(modality="image")
    return None if encoder in (inner, inner.base_model) else encoder


def _reason(tower: nn.Module, learnt: Collection[int] | None, sharded: bool) -> str | None:
    """Why the features of a tower are not kept.

    Args:
        learnt: ids of parameters that may be trained; None if nothing is.
    """
    if sharded:
        return "the model is sharded over ranks"
    if "forward" in vars(tower):
        return "another library has replaced the forward pass of the vision tower"
    if learnt is None:
        return None
    named = [(name, p) for name, p in tower.named_parameters() if p.requires_grad]
    trained = [name for name, parameter in named if id(parameter) not in learnt]
    if trained:
        return f"{len(trained)} parameters of the vision tower are trained, among them {trained[0]}"
    return "the vision tower is in training mode" if any(map(_varies, tower.modules())) else None


def _varies(module: nn.Module) -> bool:
    """Whether a frozen module is in training mode, as by dropout; gradient checkpointing needs it,
    and changes no result.
    """
    if not module.training or getattr(module, "gradient_checkpointing", False):
        return False
    parameters = list(module.parameters())
    frozen = bool(parameters) and not any(p.requires_grad for p in parameters)
    return frozen or (isinstance(module, nn.Dropout) and module.p > 0)
