"""Start-of-run check: packed rows must have the losses of padded ones.

transformers keeps packed rows apart without a word, for models that build their mask in its way,
and not for others. There a row would see its neighbours, and the training would go wrong in
silence. So a few real rows go through the model three times: padded, packed, and packed without the
`position_ids` that say where a row begins. The last one shows what neighbours do to the losses of
these rows; it is the measure for the difference between the first two, which in a model that
ignores `position_ids` is just as large.
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

ROWS = 4  # rows that the check wants: enough for several packed rows, one of which holds several
# Of what neighbours do; a model that lets them does 1. LLaVA gives 1e-5 in float32 and 0.01 in
# bfloat16, measured on models of two to four layers; rounding grows with depth.
TOLERANCE, LOW_PRECISION_TOLERANCE = 0.01, 0.25
# Of the losses themselves: a smaller difference is rounding, whatever neighbours do (half a unit in
# the last place of bfloat16, and some hundred of float32).
ROUNDING, LOW_PRECISION_ROUNDING = 1e-5, 2.0**-8

Batch = dict[str, Any]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackingCheck:
    """What the check saw, as norms over valid tokens relative to the norm of the padded losses.

    Attributes:
        error: of the losses of packed rows minus those of padded rows.
        neighbours: of the losses of rows that see their neighbours minus those of padded rows.
    """

    error: float
    neighbours: float


def check_packing(
    model: nn.Module, collator: Callable[[list[Any]], Batch], rows: Sequence[Any], padding: int
) -> PackingCheck | None:
    """Compare the unweighted losses of padded and of packed rows; None for less than two rows.

    Args:
        model: as it will be trained, under the autocast of the training if there is one.
        collator: makes padded batches.
        rows: about `ROWS`, from the training data, with images among them if the data have any.
        padding: id of the token that fills up shorter packed rows.

    Raises:
        CotbalError: the losses differ, or the rows cannot be packed.
    """
    if len(rows) < 2:
        return None
    _refuse(model)
    with torch.no_grad(), without_dropout(model):
        losses = [_losses(model, layout) for layout in _layouts(collator, list(rows), padding)]
    padded, packed, mixed = (torch.cat(parts) for parts in zip(*losses, strict=True))
    size = float(padded.norm().clamp_min(1e-30))
    found = PackingCheck(
        float((packed - padded).norm()) / size, float((mixed - padded).norm()) / size
    )
    low = low_precision(model)
    tolerance, rounding = (
        (LOW_PRECISION_TOLERANCE, LOW_PRECISION_ROUNDING) if low else (TOLERANCE, ROUNDING)
    )
    if not found.error <= max(tolerance * found.neighbours, rounding):
        raise CotbalError(
            f"optimization.packing: {_name(model)} does not keep packed rows apart: its losses"
            f" differ from those of padded rows by {found.error:.2%}, and by {found.neighbours:.2%}"
            " where rows see each other, so the training was not started; set"
            " optimization.packing=false"
        )
    if found.neighbours <= rounding:
        logger.warning(
            "optimization.packing: whether packed rows are kept apart cannot be seen on the first"
            " rows"
        )
    return found


class PackingCallback(TrainerCallback):
    """Checks the packing when a training begins: then the model is where it will be, and sharded
    if it will be.

    Args:
        check: does it.
    """

    def __init__(self, check: Callable[[nn.Module], object]) -> None:
        self.check = check

    def on_train_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
        """Before the first step."""
        self.check(model)


def _name(model: nn.Module) -> str:
    return type(unwrapped(model)).__name__


def _refuse(model: nn.Module) -> None:
    """Stop where the model cannot receive where a row begins."""
    arguments = inspect.signature(unwrapped(model).forward).parameters.values()
    if not any(
        a.name == "position_ids" or a.kind is inspect.Parameter.VAR_KEYWORD for a in arguments
    ):
        raise CotbalError(
            f"optimization.packing: {_name(model)} takes no position_ids, which say where a packed"
            " row begins; set optimization.packing=false"
        )


def _layouts(
    collator: Callable[[list[Any]], Batch], rows: list[Any], padding: int
) -> list[tuple[Batch, Batch]]:
    """Padded and packed, in the two ways that models treat differently: all in one row, and in
    several rows.
    """
    two, all_rows = collator(rows[:2]), collator(rows)
    lengths = all_rows["attention_mask"].sum(dim=1)
    pair = int(
        (lengths[1:] + lengths[:-1]).max()
    )  # the longest neighbours fit into one row, so some row holds several
    return [(two, pack(two, None, padding)), (all_rows, pack(all_rows, pair, padding))]


def _losses(model: nn.Module, layout: tuple[Batch, Batch]) -> tuple[Tensor, Tensor, Tensor]:
    """Of every valid token, padded, packed, and packed without positions; packing keeps their
    order.
    """
    padded, packed = layout
    mixed = {key: value for key, value in packed.items() if key != "position_ids"}
    return _of(model, padded), _of(model, packed), _of(model, mixed)


def _of(model: nn.Module, batch: Batch) -> Tensor:
    device = next(model.parameters()).device
    here = {
        key: value.to(device) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }
    return valid_token_losses(model, here, predicting(here["labels"]))[1]
