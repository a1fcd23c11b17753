"""`python -m cotbal.data.length_process`: the processor of a checkpoint, for a process without it.

Messages are pickles: settings first, then questions on the standard input, each answered on the
standard output. It ends with its input.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import IO, Any

from cotbal.data.processors import load_processor
from cotbal.data.questions import collator_for
from cotbal.data.row_lengths import RowLengths
from cotbal.errors import CotbalError


def main() -> None:
    """Answer questions until there are no more."""
    questions, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no reply
    settings = pickle.load(questions)
    try:
        lengths: RowLengths | str = _load(*settings)
    except (CotbalError, OSError, ValueError, KeyError) as error:
        lengths = str(error)
    while (question := _next(questions)) is not None:
        pickle.dump(_reply(lengths, *question), replies)
        replies.flush()


def _load(checkpoint: str, remote_code: bool, images: Path, max_length: int) -> RowLengths:
    return RowLengths(collator_for(load_processor(checkpoint, remote_code), images, max_length))


def _next(questions: IO[bytes]) -> Any:
    try:
        return pickle.load(questions)
    except EOFError:
        return None


def _reply(lengths: RowLengths | str, what: str, *values: Any) -> tuple[str, Any]:
    if isinstance(lengths, str):
        return "error", lengths
    return "reply", getattr(lengths, what)(*values)


if __name__ == "__main__":
    main()
