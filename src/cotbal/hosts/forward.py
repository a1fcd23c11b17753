"""The forward pass, and the loss of every valid token."""

from __future__ import annotations

import inspect
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from cotbal.loss import token_losses

Batch = dict[str, Any]


def valid_token_losses(
    model: nn.Module, inputs: Batch, mask: Bool[Tensor, "row position"]
) -> tuple[Any, Float[Tensor, " token"]]:
    """The model's outputs, and the losses; logits of other positions are not made, if the model can do without.

    Args:
        model: as the trainer hands it over.
        inputs: a batch; `labels` and `task_ids` are kept away from the model, which must not make a loss of its own.
        mask: the positions that predict a valid token, see `cotbal.loss.predicting`.
    """
    targets = inputs["labels"][:, 1:][mask[:, :-1]]
    plain = {key: value for key, value in inputs.items() if key not in ("task_ids", "labels")} | {"use_cache": False}
    if takes_logits_mask(model):
        outputs = model(**plain, logits_to_keep=mask)
        return outputs, token_losses(outputs.logits, targets)
    outputs = model(**plain)
    return outputs, token_losses(outputs.logits[mask], targets)


def takes_logits_mask(model: nn.Module) -> bool:
    """Whether the model's forward can be asked for some logits only (`logits_to_keep`, transformers 5)."""
    inner: Any = model
    while hasattr(inner, "module"):
        inner = inner.module  # the wrapper of a data-parallel launcher
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return "logits_to_keep" in inspect.signature(inner.forward).parameters
