"""A training whose parameters are sharded over ranks: its partial checkpoints (FSDP2), and its
whole weights.

Everything here is done by all ranks together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
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
from cotbal.training.trainers.trained_weights import changing
from cotbal.training.trainers.zero import gathered, is_partitioned

DIRECTORY = "trained_shards"


def save_shards(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """Write what `trained_weights.save_trained` keeps, and the state of the optimizer, each rank
    its part.
    """
    _complete(optimizer)
    save(_parts(model, optimizer), checkpoint_id=checkpoint / DIRECTORY)


def load_shards(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, checkpoint: Path
) -> None:
    """Put back what `save_shards` wrote; without an optimizer, the weights alone.

    Raises:
        CotbalError: it is not there, or belongs to a model of which other parts were trained.
    """
    directory = checkpoint / DIRECTORY
    if not (directory / ".metadata").exists():
        raise CotbalError(
            f"{checkpoint} holds no {DIRECTORY}: the part before was not sharded, or was cut off;"
            " continue with the configuration of accelerate that it began with, or restart without"
            " this checkpoint"
        )
    parts = _parts(model, optimizer)
    found = FileSystemReader(directory).read_metadata().state_dict_metadata
    if differing := {n for n in found if n.startswith("trained.")} ^ {
        f"trained.{n}" for n in parts["trained"]
    }:
        raise CotbalError(
            f"{checkpoint}: expected the parameters that are trained now; found {len(differing)}"
            f" more or fewer, among them {min(differing).removeprefix('trained.')}. The checkpoint"
            " belongs to another training"
        )
    load(parts, checkpoint_id=directory)
    if optimizer is not None:
        set_optimizer_state_dict(model, optimizer, parts["optimizer"])


def _parts(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    trained = {name: tensor.detach() for name, tensor in changing(model).items()}
    return {"trained": trained} | (
        {"optimizer": get_optimizer_state_dict(model, optimizer)} if optimizer else {}
    )


def _complete(optimizer: torch.optim.Optimizer) -> None:
    """Give parameters that never had a gradient the state that the optimizer begins with, zeros.

    It has none for them (a trained vision tower whose last layer is not used), and torch refuses to
    read a checkpoint in which some parameter has no state.
    """
    for like, state in list(optimizer.state.items())[:1]:
        for parameter in (each for group in optimizer.param_groups for each in group["params"]):
            if parameter not in optimizer.state:
                optimizer.state[parameter] = {
                    key: _zeros(value, like, parameter) for key, value in state.items()
                }


def _zeros(value: Any, model: Tensor, parameter: Tensor) -> Any:
    if not isinstance(value, Tensor):
        return value
    return torch.zeros_like(parameter if value.shape == model.shape else value)


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
            f"the trained model has other parameters than its base, among them {differing}"
        )
    with torch.no_grad():
        for name, tensor in sharded.items():
            full = _whole(tensor)
            if target is not None:
                target[name].copy_(full)


def _whole(tensor: Tensor) -> Tensor:
    if isinstance(tensor, DTensor):
        return tensor.full_tensor()
    return gathered(tensor) if is_partitioned(tensor) else tensor
