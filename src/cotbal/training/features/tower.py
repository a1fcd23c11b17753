"""A frozen vision tower that encodes every image once.

The forward pass of the tower is replaced. An image is identified by everything that the tower
receives for it: what the processor made of the image, and all other arguments. So a processor that
is random, or that changes its tiles, leads to other keys and never to wrong features.

The first images of a batch are encoded together and one by one. This shows how the output is
divided by image. A tower for which the two differ by more than rounding keeps its own
forward pass. Afterwards what is missing is encoded as one batch if the two were equal bit for bit,
and otherwise image by image, so that the features of an image do not depend on what was known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial, update_wrapper
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from cotbal.training.features.calls import (
    Call,
    Leaves,
    Unsupported,
    content,
    join,
    joints,
    rows,
    same,
)
from cotbal.training.features.store import Store

TRIED = 4  # images that show how an output is divided


@dataclass
class Form:
    """What outputs of calls of one form look like.

    Attributes:
        spec: how the parts of an output are put together.
        first: of every part the first one that has the same values.
        dimensions: along which outputs of single images are joined; None until a batch has shown
            it.
        exact: whether a batch gave the same as its images alone, bit for bit.
    """

    spec: TreeSpec
    first: list[int]
    dimensions: list[int | None] | None = None
    exact: bool = False

    @property
    def distinct(self) -> list[int]:
        """Parts that are kept."""
        return sorted({part for part in self.first if part >= 0})

    def kept(self, leaves: Leaves) -> list[Tensor]:
        """Of an output the parts that are kept, in memory of their own."""
        return [leaves[part].cpu().clone() for part in self.distinct]


class Tower:
    """The cached forward pass of a tower.

    Attributes:
        seen, encoded: images that the tower received, and those that it had to encode.
    """

    def __init__(
        self,
        tower: nn.Module,
        store: Store,
        unsupported: Callable[[str], None],
        identity: str,
        images: int = 0,
    ) -> None:
        self.seen = self.encoded = 0
        self._tower = tower
        self._plain = tower.forward
        self._store = store
        self._unsupported = unsupported
        self._identity = identity
        self._images = images
        self._forms: dict[str, Form] = {}
        tower.forward = update_wrapper(partial(self._forward), self._plain)

    def detach(self) -> None:
        """Give the tower its own forward pass back."""
        self._tower.__dict__.pop("forward", None)

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._cached(Call.of(args, kwargs))
        except Unsupported as reason:
            self.detach()
            self._unsupported(str(reason))
            return self._plain(*args, **kwargs)

    def _cached(self, call: Call) -> Any:
        name = f"{self._identity} {_precision()} {call.form()}"
        images = call.images()
        keys = [image.digest(name) for image in images]
        form = self._forms.get(name)
        if form is None or (form.dimensions is None and len(images) > 1):
            form = self._try(images[:TRIED], keys[:TRIED])
            self._forms[name] = form
        distinct = dict(zip(keys, images, strict=True))
        features = self._features(distinct, form, call.stacked)
        self.seen += len(images)
        parts = [features[key] for key in keys]
        dimensions = form.dimensions or [0] * len(form.first)
        joined = join(parts, [dimensions[part] for part in form.distinct])
        device = next(self._tower.parameters()).device
        kept = {}
        for part, tensor in zip(form.distinct, joined, strict=True):
            kept[part] = tensor.to(device)
        return tree_unflatten([kept.get(part) for part in form.first], form.spec)

    def _features(
        self, images: dict[str, Call], form: Form, stacked: bool
    ) -> dict[str, list[Tensor]]:
        """The kept parts of the output of every image, by key."""
        known = ((key, self._store.get(key)) for key in images)
        features = {key: tensors for key, tensors in known if tensors is not None}
        missing = [key for key in images if key not in features]
        encoded = self._encoded([images[key] for key in missing], form, stacked)
        for key, tensors in zip(missing, encoded, strict=True):
            features[key] = tensors
            self._store.put(key, tensors)
        self.encoded += len(missing)
        return features

    def _encoded(self, images: Sequence[Call], form: Form, stacked: bool) -> list[list[Tensor]]:
        if len(images) > 1 and stacked and form.exact:
            whole = form.kept(self._run(Call.together(images))[0])
            return list(rows(whole, len(images)))
        return [form.kept(self._run(image)[0]) for image in images]

    def _try(self, images: Sequence[Call], keys: Sequence[str]) -> Form:
        """The form of an output, and for several images how it is divided."""
        whole, spec = self._run(Call.together(images))
        form = Form(spec, _first(whole))
        tried = sum(whole[part].nbytes for part in form.distinct)
        needed = tried * self._images // len(images)
        if needed > self._store.budget:
            raise Unsupported(
                f"the features of {self._images:,} images take about {needed / 2**30:,.1f} GiB,"
                " more than resources.image_features"
            )
        if len(images) == 1:
            self._put(keys[0], whole, form)
            return form
        single = [self._run(image)[0] for image in images]
        form.dimensions = joints(whole, single)
        stacked = all(form.dimensions[part] == 0 for part in form.distinct)
        form.exact = stacked and same(whole, join(single, form.dimensions))
        for key, leaves in zip(keys, single, strict=True):
            self._put(key, leaves, form)
        return form

    def _put(self, key: str, leaves: Leaves, form: Form) -> None:
        if self._store.get(key) is None:
            self._store.put(key, form.kept(leaves))
            self.encoded += 1

    def _run(self, call: Call) -> tuple[Leaves, TreeSpec]:
        """The parts of the output; ordinary tensors also within `torch.inference_mode`."""
        with torch.inference_mode(False), torch.no_grad():
            leaves, spec = tree_flatten(self._plain(*call.args, **call.kwargs))
        self._validate(leaves)
        return leaves, spec

    def _validate(self, leaves: Leaves) -> None:
        for leaf in leaves:
            if isinstance(leaf, Tensor) and not leaf.isfinite().all():
                raise Unsupported("its output is not finite")
            if leaf is not None and not isinstance(leaf, Tensor):
                raise Unsupported(f"its output holds a {type(leaf).__name__}")


def _first(leaves: Leaves) -> list[int]:
    """For every part the first with the same memory and shape, such as the last hidden state among
    all hidden states; -1 for one without a value.
    """
    seen: dict[Any, int] = {}
    return [
        -1 if leaf is None else seen.setdefault((leaf.data_ptr(), leaf.shape), number)
        for number, leaf in enumerate(leaves)
    ]


def _precision() -> str:
    """What decides beside the weights in which precision a forward pass computes."""
    kinds = ("cpu", "cuda")
    dtypes = [torch.get_autocast_dtype(k) for k in kinds if torch.is_autocast_enabled(k)]
    return f"{dtypes} {torch.get_float32_matmul_precision()}"


def identity_of(tower: nn.Module, learnt: Collection[int] = ()) -> str:
    """Hash of what decides the features of an image: weights, settings, versions and hardware, as
    another processor may round differently.

    Args:
        learnt: ids of parameters that come after what is kept.
    """
    device = next(tower.parameters()).device
    cuda = device.type == "cuda"
    hardware = (
        torch.cuda.get_device_name(device) if cuda else torch.backends.cpu.get_cpu_capability()
    )
    config: Any = getattr(tower, "config", None)
    settings = config.to_json_string(use_diff=False) if hasattr(config, "to_json_string") else ""
    attention = getattr(config, "_attn_implementation", None)
    facts = (
        type(tower).__name__,
        bool(learnt),
        settings,
        attention,
        hardware,
        torch.get_num_threads(),
        torch.__version__,
        transformers.__version__,
    )
    digest = hashlib.sha256(repr(facts).encode())
    for name, tensor in _state(tower):
        if id(tensor) in learnt:
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(content(tensor))
    return digest.hexdigest()


def _state(tower: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from tower.named_parameters()
    yield from tower.named_buffers()
