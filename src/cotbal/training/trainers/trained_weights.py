"""What a training has changed, kept beside the Trainer's checkpoint so that resuming is exact.

The Trainer writes a model under the names of its published checkpoints and reads it back under the
names of its modules. Where the two differ (LLaVA, among others) it warns of missing keys and goes
on from the weights before the training; with LoRA it keeps the adapters but not the parts that are
trained in full beside them. So we keep every trained parameter, and every buffer, in its own
precision and under the name that it has in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cotbal.errors import CotbalError

FILE = "trained.safetensors"


def save_trained(model: nn.Module, checkpoint: Path) -> None:
    """Write the trained parameters and the buffers of `model`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in changing(model).items()}
    save_file(tensors, checkpoint / FILE)


def load_trained(model: nn.Module, checkpoint: Path) -> None:
    """Put back what `save_trained` wrote; the rest is as it was loaded from the base.

    Raises:
        CotbalError: the file is not there, or belongs to a model of which other parts were trained.
    """
    path = checkpoint / FILE
    if not path.exists():
        raise CotbalError(
            f"{checkpoint} holds no {FILE}: it was cut off while it was written, or another trainer"
            " or version wrote it; resume from an older checkpoint, or restart without it"
        )
    now = changing(model)
    with safe_open(path, "pt") as file, torch.no_grad():
        if differing := sorted(set(file.keys()) ^ set(now)):
            raise CotbalError(
                f"{checkpoint}: expected the parameters that are trained now; found"
                f" {len(differing)} more or fewer, among them {differing[0]}. The checkpoint"
                " belongs to another training"
            )
        for name, tensor in now.items():
            tensor.copy_(file.get_tensor(name))


def changing(model: nn.Module) -> dict[str, Tensor]:
    """What a training may change: the trained parameters, and the buffers that a checkpoint holds,
    by name.
    """
    kept = set(model.state_dict())
    parameters = {
        name: parameter
        for name, parameter in _plain(model.named_parameters())
        if parameter.requires_grad
    }
    return {
        **parameters,
        **{name: buffer for name, buffer in _plain(model.named_buffers()) if name in kept},
    }


def _plain(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Under the names without activation checkpointing, whose wrapper accelerate may have put
    around layers.
    """
    return ((name.replace("_checkpoint_wrapped_module.", ""), tensor) for name, tensor in tensors)
