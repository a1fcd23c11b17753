"""Where the markers `<image>` divide a text, and which line breaks beside them belong to it.

In records, markers at the head of a turn are followed by a line break, as in LLaVA's files. That
line break is no part of the text: a chat template writes what its model was trained with, some a
line break (LLaVA-1.5), others nothing (Qwen2-VL). All other line breaks are the user's own.
"""

from __future__ import annotations

from cotbal.data.turns import IMAGE


def between_markers(text: str, broken: bool = False) -> list[str]:
    """The texts before, between and behind the markers, without line breaks that a chat template
    writes.

    Args:
        broken: whether the template writes a line break behind every image, so that none is wanted
            in the text there.
    """
    first, *others = text.split(IMAGE)
    pieces, at_head = [first], not first.strip()
    for other in others:
        pieces.append(other.removeprefix("\n") if at_head or broken else other)
        at_head = at_head and not other.strip()
    return pieces
