"""The rules of Appendix A: pure functions from questions and answers to conversations.

Everything that is drawn at random is drawn by the hash of seed and id, so that a draw depends
neither on the order of the file nor on the version of Python, and one record more or less changes
at most one place of it.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from cotbal.benchmarks.releases.conversation import Asked, Conversation, Writable
from cotbal.data.reading.record import IMAGE

ONE_WORD = "Answer the question using a single word or phrase."
LONGEST_SEGMENT = 9  # "fewer than 10 turns" (Appendix A)


def merge_by_image(items: Iterable[tuple[str, Asked]]) -> Iterator[tuple[str, tuple[Asked, ...]]]:
    """All questions about one image together, images and questions in the order of their first
    appearance.
    """
    groups: dict[str, list[Asked]] = {}
    for image, asked in items:
        groups.setdefault(image, []).append(asked)
    for image in list(groups):
        yield image, tuple(groups.pop(image))


def segment(turns: Sequence[Asked], longest: int = LONGEST_SEGMENT) -> Iterator[tuple[Asked, ...]]:
    """Consecutive pieces of at most `longest` turns, each as long as it can be."""
    for start in range(0, len(turns), longest):
        yield tuple(turns[start : start + longest])


def with_instruction(turns: Sequence[Asked], instruction: str) -> tuple[Asked, ...]:
    """The turns with the instruction on a line of its own behind the first question, where
    LLaVA-1.5 has it.
    """
    first, *others = turns
    return (replace(first, question=f"{first.question}\n{instruction}"), *others)


def capitalized(text: str) -> str:
    """The text with its first letter in upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


def without_marker(text: str) -> str:
    """A question without the marker of its image, wherever the release put it, and without the
    space around it.
    """
    return text.replace(IMAGE, "").strip()


def drawn(ids: Iterable[str], count: int, seed: int, purpose: str = "") -> list[str]:
    """`count` of the ids at random, or all of them if there are no more; their order is part of the
    draw.

    The first n of a draw of m are the draw of n, so that two disjoint sets are the two ends of one
    draw.

    Args:
        ids: each one once.
        purpose: draws for different purposes from the same ids have nothing to do with each other.
    """

    def rank(identity: str) -> bytes:
        return hashlib.sha256(f"{seed} {purpose} {identity}".encode()).digest()

    return heapq.nsmallest(count, ids, key=rank)


def with_unique_ids(conversations: Iterable[Writable]) -> Iterator[Writable]:
    """The conversations; where an id has appeared before, `_2`, `_3`, ... is put behind it."""
    seen: Counter[str] = Counter()
    for conversation in conversations:
        if not isinstance(conversation, Conversation):
            yield conversation  # the user's own, which has a unique id
            continue
        seen[conversation.id] += 1
        times = seen[conversation.id]
        yield conversation if times == 1 else replace(conversation, id=f"{conversation.id}_{times}")


def truncated(
    turns: Sequence[Asked], count: Callable[[Asked], int], longest: int
) -> tuple[Asked, ...]:
    """The first turns that fit into `longest` tokens together; the first one stays even if it does
    not fit.

    What is left of a single turn that is too long is cut by the collator of the training.
    """
    total = count(turns[0])
    kept = [turns[0]]
    for asked in turns[1:]:
        total += count(asked)
        if total > longest:
            break
        kept.append(asked)
    return tuple(kept)
