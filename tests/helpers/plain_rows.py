"""What a collator finds in a row without opening its images."""

from __future__ import annotations

from cotbal.data.batches.collate import Collator, Row


def valid_tokens(collator: Collator, row: Row) -> int:
    """Number of tokens that carry loss."""
    _, ranges = collator.plain(row)
    return sum(stop - start for start, stop in ranges)
