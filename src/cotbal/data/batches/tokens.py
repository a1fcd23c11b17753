"""The tokenizer.json of a checkpoint, without the lengths that it may store; no PyTorch needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cotbal.errors import MissingDependency


def open_tokenizer(path: Path, what: str) -> Any:
    """The tokenizer in a `tokenizer.json`; it neither pads nor truncates.

    Args:
        what: the feature that needs it, for the message.

    Raises:
        MissingDependency: no package `tokenizers`.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingDependency(what, "train") from None
    return without_lengths(Tokenizer.from_file(str(path)))


def without_lengths(tokenizer: Any) -> Any:
    """The tokenizer with its stored padding and truncation switched off.

    A file that was saved while either was on keeps it, and each text then counts as many tokens as
    the longest one, or as few as the limit.
    """
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
