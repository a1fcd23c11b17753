"""Packing: several rows one behind the other in one, so that no computation is spent on padding.

    collator = packed(with_task_ids(collator, tasks), length=4096, padding=tokenizer.pad_token_id)

Rows in one packed row must not see each other. No attention mask is handed to the model; instead
its `position_ids` start again at 0 with every row, from which transformers 5 makes a block-diagonal
causal mask, for models that build their mask with `create_causal_mask`. It does so only without a
cache of keys and values, and does not warn, so a packed batch also has `use_cache=False`; and
with flash attention only where the whole batch is one packed row (`length=None`).
`cotbal.training.trainers.packing_check` checks whether a model does. The first token of
every row loses its label, so that nothing is predicted across a border; a padded row never predicts
its first token either, so the loss is the same. Task ids become one per token, and `masked_rows` is
the number of rows without a valid token, which can no longer be seen.

Shown to be exact by a test for LLaVA, with text and with images (eager and sdpa). Models with
positions of several dimensions (Qwen2-VL and later) have fields that cannot be packed like this:
an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cotbal.errors import DataError
from cotbal.loss import IGNORED, predicting

Batch = dict[str, Any]
# One entry per image, in the order of the placeholders: they stay as they are.
IMAGES = ("pixel_values", "image_sizes")
MASKED_ROWS = "masked_rows"


def packed(
    collator: Callable[[list[Any]], Batch], length: int | None, padding: int
) -> Callable[[list[Any]], Batch]:
    """A collator that packs the batch of another one, see `pack`."""
    return lambda rows: pack(collator(rows), length, padding)


def pack(batch: Batch, length: int | None, padding: int) -> Batch:
    """Rows of a padded batch, packed in their order.

    Args:
        batch: `input_ids`, `labels` and `attention_mask` of shape [row, position], and where there
            are any `task_ids` [row] and images.
        length: tokens of a packed row at most; a longer row stays alone. None puts the whole batch
            into one row, without any padding.
        padding: id of the token that fills up shorter packed rows.

    Raises:
        DataError: the batch has a field that cannot be packed.
    """
    shape = batch["input_ids"].shape
    kept = batch.get("attention_mask", torch.ones(shape)).bool()
    _validate(batch)
    groups = _groups(kept.sum(dim=1).tolist(), length)
    tokens = {
        key: value
        for key, value in batch.items()
        if key not in ("attention_mask", "task_ids", *IMAGES)
    }
    if "task_ids" in batch:
        tokens["task_ids"] = batch["task_ids"][:, None].expand(shape)
    fill = {"input_ids": padding, "labels": IGNORED}
    joined = {}
    for key, value in tokens.items():
        joined[key] = _join(value, kept, groups, fill.get(key, 0))
    starts = _starts(kept, groups)
    joined["labels"] = joined["labels"].masked_fill(starts, IGNORED)
    others = {key: batch[key] for key in IMAGES if key in batch}
    if "task_ids" in batch:
        has_loss = predicting(batch["labels"]).any(dim=1)
        others[MASKED_ROWS] = int((~has_loss).sum())
    return {**joined, "position_ids": _positions(starts), "use_cache": False, **others}


def _validate(batch: Batch) -> None:
    shape = batch["input_ids"].shape
    known = ("task_ids", *IMAGES)
    unknown = [
        key
        for key, value in batch.items()
        if key not in known and getattr(value, "shape", None) != shape
    ]
    if "position_ids" in batch:
        unknown.append("position_ids")
    if unknown:
        raise DataError(
            f"packing supports fields of shape [row, position], {' and '.join(IMAGES)}; not"
            f" supported: {', '.join(unknown)}. Train this model with padded batches (in a recipe:"
            " optimization.packing: false)",
            "model-not-supported",
        )


def _groups(lengths: list[int], limit: int | None) -> list[list[int]]:
    """Rows of every packed row: in order, so that images stay in the order of their
    placeholders."""
    groups: list[list[int]] = [[]]
    used = 0
    for row, length in enumerate(lengths):
        if limit is not None and groups[-1] and used + length > limit:
            groups.append([])
            used = 0
        groups[-1].append(row)
        used += length
    return groups


def _join(
    values: Tensor, kept: Bool[Tensor, "row position"], groups: list[list[int]], fill: int
) -> Tensor:
    rows = []
    for group in groups:
        parts = [values[row][kept[row]] for row in group]
        rows.append(torch.cat(parts))
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)


def _starts(
    kept: Bool[Tensor, "row position"], groups: list[list[int]]
) -> Bool[Tensor, "packed position"]:
    """True at the first token of every row, and at every token of padding: to the mask each is a
    row.
    """
    first = kept & (kept.cumsum(dim=1) == 1)
    return _join(first, kept, groups, fill=True)


def _positions(starts: Bool[Tensor, "packed position"]) -> Int[Tensor, "packed position"]:
    """0, 1, 2, ... from every start on."""
    places = torch.arange(starts.shape[1]).expand(starts.shape)
    return places - places.masked_fill(~starts, 0).cummax(dim=1).values
