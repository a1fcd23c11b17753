"""The frozen layers of a vision tower that holds the projector, which is trained (Qwen, GLM).

Every image goes through the layers once. What is kept is the output of the last layer, and what
the projector gets of earlier layers. With these the tower runs again without its layers, so that
the projector computes with its weights of this step and gets its gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten

from cotbal.training.features.calls import Call, Leaves, Unsupported, agree
from cotbal.training.features.tower import Form, Tower

FAILURES = (TypeError, KeyError, IndexError, RuntimeError, ValueError)


class LayersOfTower(Tower):
    """The cached forward pass of a tower whose layers alone are frozen.

    Args:
        learnt: ids of the parameters of the tower that are trained.
    """

    def __init__(self, tower: nn.Module, *args: Any, learnt: Collection[int]) -> None:
        super().__init__(tower, *args)
        self._layers = _layers(tower, learnt)
        self._projectors = list(_called(tower, learnt))

    def _run(self, call: Call) -> tuple[Leaves, TreeSpec]:
        """What leaves the frozen layers."""
        with torch.inference_mode(False), torch.no_grad():
            leaves = self._recorded(call)[0]
        self._validate(leaves)
        return leaves, tree_flatten(leaves)[1]

    def _cached(self, call: Call) -> Any:
        return self._replayed(call, super()._cached(call))

    def _replayed(self, call: Call, leaves: Sequence[Tensor]) -> Any:
        with self._without_layers(iter(leaves)):
            return self._plain(*call.args, **call.kwargs)

    def _try(self, images: Sequence[Call], keys: Sequence[str]) -> Form:
        form, call = super()._try(images, keys), Call.together(images)
        try:
            self._need_frozen(images[0].copy())
            with torch.inference_mode(False), torch.no_grad():
                leaves, output = self._recorded(call)
                again = self._replayed(call, leaves)
        except FAILURES as error:
            raise Unsupported(f"it does not run without its layers: {error}") from None
        pairs = zip(tree_flatten(output)[0], tree_flatten(again)[0], strict=True)
        if not all(agree(one, other) for one, other in pairs if isinstance(one, Tensor)):
            raise Unsupported("its output depends on more than its last layer")
        return form

    def _need_frozen(self, image: Call) -> None:
        """
        Raises:
            Unsupported: what is kept depends on a parameter that is trained.
        """
        learnt = [p for module in self._projectors for p in module.parameters()]
        with torch.inference_mode(False), torch.enable_grad():
            kept = [leaf.sum() for leaf in self._recorded(image)[0] if leaf.requires_grad]
            slopes = torch.autograd.grad(kept, learnt, allow_unused=True) if kept else ()
        if any(slope is not None for slope in slopes):
            raise Unsupported("trained parameters come before its last layer")

    def _recorded(self, call: Call) -> tuple[list[Tensor], Any]:
        """What the projector gets before the last layer ends, and the output of that layer; with
        the output of the tower.
        """
        recorded: list[Any] = []
        ended: list[bool] = []

        def before_projector(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not ended:
                recorded.append(inputs[0])

        def behind_layers(_: nn.Module, __: Any, output: Any) -> None:
            recorded.append(output)
            ended.append(True)

        with ExitStack() as stack:
            for module in self._projectors:
                stack.callback(module.register_forward_pre_hook(before_projector).remove)
            stack.callback(self._layers[-1].register_forward_hook(behind_layers).remove)
            output = self._plain(*call.args, **call.kwargs)
        if len(ended) != 1 or not all(isinstance(part, Tensor) for part in recorded):
            raise Unsupported("its layers do not follow one another")
        return recorded, output

    @contextmanager
    def _without_layers(self, leaves: Iterator[Tensor]) -> Iterator[None]:
        """Layers return what they get, and the last one what was kept."""
        ended: list[bool] = []

        def last(*_: Any, **__: Any) -> Tensor:
            ended.append(True)
            return next(leaves)

        def before_projector(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
            return None if ended else (next(leaves), *inputs[1:])

        with ExitStack() as stack:
            for module in self._projectors:
                stack.callback(module.register_forward_pre_hook(before_projector).remove)
            for layer in self._layers:
                forward = last if layer is self._layers[-1] else _unchanged
                stack.enter_context(_replaced(layer, forward))
            yield


def _unchanged(*args: Any, **kwargs: Any) -> Any:
    return args[0] if args else kwargs["hidden_states"]


@contextmanager
def _replaced(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    before = vars(layer).get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if before is not None:
            layer.forward = before


def _layers(tower: nn.Module, learnt: Collection[int]) -> list[nn.Module]:
    """The longest list of frozen modules.

    Raises:
        Unsupported: there is none.
    """
    frozen = []
    for module in tower.modules():
        if isinstance(module, nn.ModuleList):
            parameters = _ids(module)
            if parameters and parameters.isdisjoint(learnt):
                frozen.append(module)
    if not frozen:
        raise Unsupported("it has no frozen layers")
    longest = max(frozen, key=lambda layers: len(_ids(layers)))
    return list(longest)


def _called(module: nn.Module, learnt: Collection[int]) -> Iterator[nn.Module]:
    """The largest modules all of whose parameters are trained; a list of modules is not called."""
    ids = _ids(module)
    if ids and ids <= set(learnt) and not isinstance(module, nn.ModuleList):
        yield module
    elif ids & set(learnt):
        for child in module.children():
            yield from _called(child, learnt)


def _ids(module: nn.Module) -> set[int]:
    return {id(parameter) for parameter in module.parameters()}
