"""The instruction of a task, in the words that every trainer gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cotbal.data.conversations import Turn


def with_instruction(turns: Sequence[Turn], instruction: str | None) -> tuple[Turn, ...]:
    """The turns with `instruction` on a line of its own at the end of the first user turn; None
    changes nothing.
    """
    if not instruction:
        return tuple(turns)
    first = next(i for i, turn in enumerate(turns) if turn.role == "user")
    return tuple(
        replace(t, text=f"{t.text}\n{instruction}") if i == first else t
        for i, t in enumerate(turns)
    )
