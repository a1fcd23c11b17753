"""An image for micro-batches of text alone, where the parameters of the vision tower are sharded
over ranks.

Ranks that hold shards of a module must all run it, forward and backward. A rank whose micro-batch
holds no image would skip the vision tower while the others wait for it (FSDP, DeepSpeed ZeRO-3).
Plain data parallelism needs no such help.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cotbal.errors import CotbalError
from cotbal.loss import IGNORED

Batch = dict[str, Any]


def with_blank_image(
    collator: Callable[[list[Any]], Batch], example: Any, field: str = "pixel_values"
) -> Callable[[list[Any]], Batch]:
    """A collator that adds a row without any label to batches without an image.

    Such a row has no valid token, so it changes neither loss nor gradient, and its task does not
    matter; the log counts it among `masked_rows`. Rows are packed afterwards:
    `packed(with_blank_image(...), ...)`.

    Args:
        collator: the one to wrap, with `with_task_ids` already around it.
        example: a row with one image, best a small one.
        field: of a batch that holds its images.

    Raises (when called):
        CotbalError: the collator packs rows, so the added row could not be recognised.
    """

    def collate(rows: list[Any]) -> Batch:
        batch = collator(rows)
        if field in batch:
            return batch
        batch = collator([*rows, example])
        if len(batch["labels"]) != len(rows) + 1:
            raise CotbalError(
                f"expected {len(rows) + 1} rows from the collator, found {len(batch['labels'])}:"
                " pack rows after the blank image was added, `packed(with_blank_image(...),"
                " ...)`"
            )
        batch["labels"][-1] = IGNORED
        return batch

    return collate
