"""The forward pass, and the loss of every valid token."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cotbal.data.batches.packing import MASKED_ROWS
from cotbal.errors import CotbalError
from cotbal.loss import token_losses

Batch = dict[str, Any]
OURS = ("labels", "task_ids", MASKED_ROWS)  # fields of a batch that the model never gets


def valid_token_losses(
    model: nn.Module, inputs: Batch, mask: Bool[Tensor, "row position"], whole: bool = False
) -> tuple[Any, Float[Tensor, " token"]]:
    """The model's outputs, and the losses.

    Args:
        mask: the positions that predict a valid token, see `cotbal.loss.predicting`. If the model
            can, it computes the logits of these alone.
        whole: compute the logits of all positions, for a caller that compares them with the labels.
    """
    targets = inputs["labels"][:, 1:][mask[:, :-1]]
    plain = for_model(inputs)
    if takes_logits_mask(model) and not whole:
        outputs = model(**plain, logits_to_keep=mask)
        return outputs, token_losses(logits_of(model, outputs), targets)
    outputs = model(**plain)
    return outputs, token_losses(logits_of(model, outputs)[mask], targets)


def logits_of(model: nn.Module, outputs: Any) -> Tensor:
    """The logits; a fused loss returns none, and would leave the weights out."""
    logits = getattr(outputs, "logits", None)
    if not isinstance(logits, Tensor):
        raise CotbalError(
            f"expected logits from {type(unwrapped(model)).__name__}, found none: a fused or"
            " chunked loss is switched on, which would leave the weights out. Switch it off"
            ' (Liger: fused_linear_cross_entropy; TRL: loss_type="nll")',
            "missing-logits",
        )
    return logits


def for_model(inputs: Batch) -> Batch:
    """The fields for the model's forward; with labels it would compute a loss of its own."""
    return {key: value for key, value in inputs.items() if key not in OURS} | {"use_cache": False}


def takes_logits_mask(model: nn.Module) -> bool:
    """Whether the model can compute some logits only (`logits_to_keep` of transformers 5)."""
    return "logits_to_keep" in inspect.signature(unwrapped(model).forward).parameters


def validate_adapter(model: nn.Module) -> None:
    """Reject adapters that put tokens before those of a row; prefix tuning adds no logits."""
    adapter = getattr(model, "active_peft_config", None)
    if adapter is not None and adapter.is_prompt_learning and adapter.peft_type != "PREFIX_TUNING":
        raise CotbalError(
            f"{type(adapter).__name__} adds tokens before those of a row, so labels and losses"
            " would not line up; use LoRA or prefix tuning",
            "unsupported-adapter",
        )


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of a data-parallel launcher and of LoRA."""
    inner: Any = model
    while hasattr(inner, "module"):
        inner = inner.module
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Make two passes comparable: layers are in evaluation mode, the model itself is in training
    mode.

    Two kinds of layers are exceptions. Layers in four bits (weights in whole numbers) are in
    training mode, also before the first step: on CPUs bitsandbytes takes evaluation for inference,
    stores their weights in another order and rounds, and the training would continue with these.
    Layers with gradient checkpointing keep their mode, because it works in training mode alone:
    without it the pass may not fit into memory.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    model.training = True
    for module, mode in modes:
        if _in_four_bits(module):
            module.training = True
        elif getattr(module, "gradient_checkpointing", False):
            module.training = mode
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _in_four_bits(module: nn.Module) -> bool:
    return not all(p.is_floating_point() for p in module.parameters(recurse=False))


def low_precision(model: nn.Module) -> bool:
    """Whether the forward pass rounds more coarsely than float32, by parameters or autocast."""
    autocast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    return autocast or any(p.dtype.itemsize < 4 for p in model.parameters())
