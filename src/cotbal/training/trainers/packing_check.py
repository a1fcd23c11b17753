"""Start-of-run check: packed rows must have the losses of padded ones.

transformers keeps packed rows apart in models that build their mask in its way. In others a row
would silently see its neighbours. So a few real rows go through the model three times: padded,
packed, and packed without the `position_ids` that say where a row begins. The last pass shows how
much neighbours change the losses of these rows; in a model that ignores `position_ids`, packing
changes them as much.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from cotbal.data.batches.packing import pack
from cotbal.errors import CotbalError
from cotbal.loss import predicting
from cotbal.training.trainers.forward import (
    low_precision,
    unwrapped,
    valid_token_losses,
    without_dropout,
)

ROWS = 4  # enough for several packed rows, one of which holds several
# As a fraction of the effect of neighbours, which is 1 where they are seen. LLaVA gives 1e-5 in
# float32 and 0.01 in bfloat16, measured on models of two to four layers; rounding grows with depth.
TOLERANCE, LOW_PRECISION_TOLERANCE = 0.01, 0.25
# As a fraction of the losses: a smaller difference is rounding, whatever the effect of neighbours
# (half a unit in the last place of bfloat16, some hundred of float32).
ROUNDING, LOW_PRECISION_ROUNDING = 1e-5, 2.0**-8

Batch = dict[str, Any]
Collate = Callable[[list[Any]], Batch]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackingCheck:
    """Norms of differences of losses, relative to the norm of the losses of padded rows.

    Attributes:
        error: of packed rows to padded rows.
        neighbours: of rows that see their neighbours to padded rows.
    """

    error: float
    neighbours: float


def check_packing(
    model: nn.Module, collator: Collate, rows: Sequence[Any], padding: int
) -> PackingCheck | None:
    """Compare the unweighted losses of padded and of packed rows; None for less than two rows.

    Args:
        model: as it will be trained, under the autocast of the training.
        collator: makes padded batches.
        rows: about `ROWS` of the training data, with images among them if there are any.
        padding: id of the token that fills up shorter packed rows.

    Raises:
        CotbalError: the losses differ, or the rows cannot be packed.
    """
    if len(rows) < 2:
        return None
    _require_position_ids(model)
    with torch.no_grad(), without_dropout(model):
        losses = [_losses(model, layout) for layout in _layouts(collator, list(rows), padding)]
    padded, packed, mixed = (torch.cat(parts) for parts in zip(*losses, strict=True))
    size = float(padded.norm().clamp_min(1e-30))
    check = PackingCheck(
        float((packed - padded).norm()) / size, float((mixed - padded).norm()) / size
    )
    tolerance, rounding = TOLERANCE, ROUNDING
    if low_precision(model):
        tolerance, rounding = LOW_PRECISION_TOLERANCE, LOW_PRECISION_ROUNDING
    if not check.error <= max(tolerance * check.neighbours, rounding):
        raise CotbalError(
            f"optimization.packing: {_name(model)} does not keep packed rows apart: its losses"
            f" differ from those of padded rows by {100 * check.error:.2f} %, and by"
            f" {100 * check.neighbours:.2f} % where rows see each other, so the training was not"
            " started; set optimization.packing=false",
            "unsupported-packing",
        )
    if check.neighbours <= rounding:
        logger.warning(
            "optimization.packing: the first rows do not show whether packed rows are kept apart"
        )
    return check


class PackingCheckCallback(TrainerCallback):
    """Runs `check_packing` when a training begins: the model is on its device and sharded."""

    def __init__(self, trainer: Any, collator: Collate, rows: list[Any], padding: int) -> None:
        self.trainer = trainer
        self.arguments = (collator, rows, padding)

    def on_train_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
        """Before the first step."""
        with self.trainer.accelerator.autocast():
            check_packing(model, *self.arguments)


def _name(model: nn.Module) -> str:
    return type(unwrapped(model)).__name__


def _require_position_ids(model: nn.Module) -> None:
    parameters = inspect.signature(unwrapped(model).forward).parameters
    if "position_ids" in parameters:
        return
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
        raise CotbalError(
            f"optimization.packing: {_name(model)} takes no position_ids, which say where a packed"
            " row begins; set optimization.packing=false",
            "unsupported-packing",
        )


def _layouts(collator: Collate, rows: list[Any], padding: int) -> list[tuple[Batch, Batch]]:
    """Padded and packed: all in one row and in several rows, which models treat differently."""
    two = collator(rows[:2])
    all_rows = collator(rows)
    lengths = all_rows["attention_mask"].sum(dim=1)
    neighbours = lengths[1:] + lengths[:-1]
    pair = int(neighbours.max())  # so that some packed row holds several
    in_one = pack(two, None, padding)
    in_several = pack(all_rows, pair, padding)
    return [(two, in_one), (all_rows, in_several)]


def _losses(model: nn.Module, layout: tuple[Batch, Batch]) -> list[Tensor]:
    """Of every valid token: padded, packed, and packed without positions."""
    padded, packed = layout
    mixed = {key: value for key, value in packed.items() if key != "position_ids"}
    return [_token_losses(model, batch) for batch in (padded, packed, mixed)]


def _token_losses(model: nn.Module, batch: Batch) -> Tensor:
    device = next(model.parameters()).device
    moved = dict(batch)
    for name, value in batch.items():
        if isinstance(value, Tensor):
            moved[name] = value.to(device)
    return valid_token_losses(model, moved, predicting(moved["labels"]))[1]
