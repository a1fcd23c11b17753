"""The instruction of a task, in the words that every trainer gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cotbal.data.conversations import Turn


def with_instruction(turns: Sequence[Turn], instruction: str | None) -> tuple[Turn, ...]:
    """The turns with `instruction` on a line of its own at the end of the first user turn.

    None changes nothing, nor does an instruction that the turn has already: on a line of its own,
    or at the end, as in the files of LLaVA.
    """
    if not instruction:
        return tuple(turns)
    first = next(i for i, turn in enumerate(turns) if turn.role == "user")
    asked, wanted = turns[first].text.strip(), instruction.strip()
    if asked.endswith(wanted) or f"\n{wanted}\n" in f"\n{asked}\n":
        return tuple(turns)
    return tuple(
        replace(t, text=f"{t.text}\n{instruction}") if i == first else t
        for i, t in enumerate(turns)
    )
