"""Valid tokens of a record, counted with the checkpoint's own tokenizer where it lies on disk; no
torch needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cotbal.data.records import Record
from cotbal.recipe import Recipe

END_OF_TURN = 1  # every answer is followed by one token that ends the turn


def token_counter(recipe: Recipe) -> Callable[[Record], int] | None:
    """A function that counts the tokens of a record's answers, or None without a checkpoint or
    tokenizer to ask.
    """
    if recipe.file.model is None:
        return None
    path = Path(recipe.checkpoint) / "tokenizer.json"
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    if not path.exists():
        return None
    tokenizer = Tokenizer.from_file(str(path))

    def count(record: Record) -> int:
        return sum(
            len(tokenizer.encode(answer, add_special_tokens=False)) + END_OF_TURN
            for answer in record.learnt
        )

    return count
