"""What a training has changed, kept beside the Trainer's checkpoint so that resuming is exact.

The Trainer writes a model under the names of its published checkpoints and reads it under the names
of its modules. Where these differ (LLaVA, among others) it only warns of missing keys and continues
from the weights before the training; with LoRA it keeps the adapters but not the parts trained in
full beside them. So we keep every trained parameter and every buffer in its own precision, under
its name in memory. All ranks take part in what is done here for sharded parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from cotbal.errors import CotbalError

FILE = "trained.safetensors"
DIRECTORY = "trained_shards"


def save_trained(model: nn.Module, checkpoint: Path) -> None:
    """Write the trained parameters and the buffers of `model`."""
    tensors = {}
    for name, tensor in changing(model).items():
        tensors[name] = tensor.detach().cpu().contiguous()
    save_file(tensors, checkpoint / FILE)


def load_trained(model: nn.Module, checkpoint: Path) -> None:
    """Restore what `save_trained` wrote; all else stays as it was loaded from the base.

    Raises:
        CotbalError: the file is missing, or other parts of the model were trained.
    """
    _require(checkpoint, FILE, checkpoint / FILE)
    current = changing(model)
    with safe_open(checkpoint / FILE, "pt") as file, torch.no_grad():
        _require_same_names(checkpoint, set(file.keys()) ^ set(current))
        for name, tensor in current.items():
            tensor.copy_(file.get_tensor(name))


def save_shards(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """As `save_trained`, with the state of the optimizer; each rank writes its part."""
    _complete(optimizer)
    save(_parts(model, optimizer), checkpoint_id=checkpoint / DIRECTORY)


def load_shards(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, checkpoint: Path
) -> None:
    """Restore what `save_shards` wrote; without an optimizer, the weights alone.

    Raises:
        CotbalError: the shards are missing, or other parts of the model were trained.
    """
    directory = checkpoint / DIRECTORY
    _require(checkpoint, DIRECTORY, directory / ".metadata")
    parts = _parts(model, optimizer)
    stored = FileSystemReader(directory).read_metadata().state_dict_metadata
    names = {name.removeprefix("trained.") for name in stored if name.startswith("trained.")}
    _require_same_names(checkpoint, names ^ set(parts["trained"]))
    load(parts, checkpoint_id=directory)
    if optimizer is not None:
        set_optimizer_state_dict(model, optimizer, parts["optimizer"])


def gather_trained(model: nn.Module, whole: nn.Module | None) -> None:
    """Copy what was trained into a model that is not sharded, one tensor at a time.

    Args:
        whole: on the rank that writes, the model as it was before the training; None on the others.

    Raises:
        CotbalError: `whole` has other parameters.
    """
    target = None if whole is None else changing(whole)
    sharded = changing(model)
    if target is not None and target.keys() != sharded.keys():
        differing = min(target.keys() ^ sharded.keys())
        raise CotbalError(
            f"the trained model has other parameters than its base, among them {differing}",
            "other-parameters",
        )
    with torch.no_grad():
        for name, tensor in sharded.items():
            full = full_tensor(tensor)
            if target is not None:
                target[name].copy_(full)


def changing(model: nn.Module) -> dict[str, Tensor]:
    """Name -> what a training may change: trained parameters, and buffers of checkpoints."""
    kept = set(model.state_dict())
    parameters = _plain(model.named_parameters())
    tensors = {name: parameter for name, parameter in parameters if parameter.requires_grad}
    return tensors | {
        name: buffer for name, buffer in _plain(model.named_buffers()) if name in kept
    }


def _plain(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Without the wrapper that accelerate puts around layers to checkpoint their activations."""
    return ((name.replace("_checkpoint_wrapped_module.", ""), tensor) for name, tensor in tensors)


def _require(checkpoint: Path, name: str, path: Path) -> None:
    if not path.exists():
        raise CotbalError(
            f"{checkpoint}: expected {name} in it. The checkpoint was cut off, or was written by"
            " another trainer, another version or without this configuration of accelerate; resume"
            " as the training began, from an older checkpoint, or restart",
            "incomplete-checkpoint",
        )


def _require_same_names(checkpoint: Path, differing: set[str]) -> None:
    if differing:
        raise CotbalError(
            f"{checkpoint}: expected the parameters that are trained now; {len(differing)} differ,"
            f" among them {min(differing)}. The checkpoint belongs to another training",
            "other-parameters",
        )


def _parts(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "trained": {name: tensor.detach() for name, tensor in changing(model).items()}
    }
    if optimizer is not None:
        parts["optimizer"] = get_optimizer_state_dict(model, optimizer)
    return parts


def _complete(optimizer: torch.optim.Optimizer) -> None:
    """Add the initial state, zeros, of parameters that never had a gradient (in an unused layer),
    since torch does not read a checkpoint without the state of a parameter.
    """
    if not optimizer.state:
        return
    like, state = next(iter(optimizer.state.items()))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter not in optimizer.state:
                optimizer.state[parameter] = {
                    key: _zeros(value, like, parameter) for key, value in state.items()
                }


def _zeros(value: Any, like: Tensor, parameter: Tensor) -> Any:
    if not isinstance(value, Tensor):
        return value
    return torch.zeros_like(parameter if value.shape == like.shape else value)


def is_partitioned(tensor: Tensor) -> bool:
    """Whether DeepSpeed ZeRO-3 has sharded a parameter."""
    return hasattr(tensor, "ds_id")


def size_of(parameter: Tensor) -> int:
    """Number of values of a parameter, those on other ranks included."""
    return int(parameter.ds_numel if is_partitioned(parameter) else parameter.numel())  # type: ignore[attr-defined]


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor of which this rank may hold a part (FSDP2, ZeRO-3)."""
    if isinstance(tensor, DTensor):
        return tensor.full_tensor()
    if not is_partitioned(tensor):
        return tensor
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters([tensor]), torch.no_grad():
        return tensor.detach().clone()
