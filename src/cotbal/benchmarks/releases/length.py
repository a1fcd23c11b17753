"""How long a conversation is in tokens, for `--max-tokens`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cotbal.benchmarks.releases.conversation import Asked
from cotbal.data.batches.tokens import open_tokenizer
from cotbal.data.reading.record import IMAGE
from cotbal.errors import DataError


def turn_counter(tokenizer: str) -> Callable[[Asked], int]:
    """A function that counts the tokens of a turn as Vicuna's template writes it: roles, texts and
    the end of the turn.

    Args:
        tokenizer: a `tokenizer.json`, or the directory of a checkpoint that holds one.

    Raises:
        MissingDependency: no package `tokenizers`.
        DataError: no such file.
    """
    path = Path(tokenizer)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise DataError(
            f"--tokenizer: expected a tokenizer.json or the directory of one; found no file {path}",
            "missing-file",
        )
    encode = open_tokenizer(path, "--max-tokens").encode

    def count(asked: Asked) -> int:
        answer = asked.answer if isinstance(asked.answer, str) else asked.answer[0]
        text = f"USER: {asked.question.replace(IMAGE, '')} ASSISTANT: {answer}"
        return len(encode(text, add_special_tokens=False)) + 1

    return count
