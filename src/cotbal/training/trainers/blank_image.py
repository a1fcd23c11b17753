"""An image for micro-batches of text alone, where the vision tower is sharded over ranks.

Ranks that hold shards of a module (FSDP, DeepSpeed ZeRO-3) must all run it, forward and backward. A
rank whose micro-batch has no image would skip the vision tower while the others wait for it.
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
    """Wrap a collator so that it adds a row without labels to batches without an image.

    The row has no valid token, so it changes neither loss nor gradient; the log counts it among
    `masked_rows`. Rows are packed afterwards: `packed(with_blank_image(...), ...)`.

    Args:
        collator: already wrapped by `with_task_ids`.
        example: a row with one image, preferably a small one.
        field: of a batch with its images.

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
                " pack rows after the blank image is added, `packed(with_blank_image(...), ...)`",
                "wrong-shape",
            )
        batch["labels"][-1] = IGNORED
        return batch

    return collate
