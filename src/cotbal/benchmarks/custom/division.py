"""Records held out for validation and test: by image, so that no image is in two splits, under
whichever names and in however many copies.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from cotbal.benchmarks.custom.rows import CustomConversation
from cotbal.data.checks.same_images import same_images
from cotbal.errors import CotbalError

# called with whether embedded images are written
Conversations = Callable[[bool], Iterable[CustomConversation]]


class Division:
    """Draws the held-out records of one task once, when they are first asked for.

    Args:
        wanted: split -> fraction (below 1) or number of records to hold out.
        seed: of the draw.
        task: its name, for messages.
    """

    def __init__(self, wanted: Mapping[str, float], seed: int, task: str) -> None:
        self._wanted = wanted
        self._seed = seed
        self._task = task
        self._linked: _Linked | None = None
        self._held: dict[int, str] = {}

    def part(
        self, split: str, conversations: Conversations, images: Path
    ) -> Iterator[CustomConversation]:
        """The conversations of a split: `train`, or one that is held out.

        Args:
            images: root of the names of images.

        Raises:
            CotbalError: so much is to be held out that nothing is left to train on.
        """
        linked = self._linked or self._draw(conversations, images)
        return (
            conversation
            for conversation in conversations(True)
            if self._held.get(linked.root(_key(conversation)), "train") == split
        )

    def _draw(self, conversations: Conversations, images: Path) -> _Linked:
        linked = _Linked()
        sizes = Counter[int]()
        shown: dict[str, None] = {}  # every image once, in order
        for conversation in conversations(False) if self._wanted else ():
            names = conversation.images or (_text(conversation),)
            sizes[linked.join(map(_stable, names))] += 1
            shown.update(dict.fromkeys(conversation.images))
        distinct = list(shown)
        for name, first in zip(distinct, same_images(images, distinct), strict=True):
            linked.join(map(_stable, (distinct[first], name)))
        together = Counter[int]()
        for key, size in sizes.items():
            together[linked.root(key)] += size
        self._hold(together)
        self._linked = linked
        return linked

    def _hold(self, sizes: Mapping[int, int]) -> None:
        """Whole groups, in a random order, until every split has what it wants."""
        total = sum(sizes.values())
        if self._wanted and not total:
            raise CotbalError(
                f"{self._task}: expected at least one record; found none", "no-records"
            )

        def rank(key: int) -> bytes:
            return hashlib.sha256(f"{self._seed} {key}".encode()).digest()

        order = iter(sorted(sizes, key=rank))
        left = total
        for split, wanted in self._wanted.items():
            number = int(wanted) if wanted >= 1 else max(1, round(wanted * total))
            held = 0
            while held < number and left:
                group = next(order)
                self._held[group] = split
                held += sizes[group]
                left -= sizes[group]
        if self._wanted and not left:
            parts = [f"{wanted:g} for {split}" for split, wanted in self._wanted.items()]
            listed = ", ".join(parts)
            raise CotbalError(
                f"{self._task}: expected records left to train on; all {total:,} records, with"
                f" {len(sizes):,} groups of images, are held out ({listed}); hold out fewer with"
                " --validation and --test",
                "no-records",
            )


class _Linked:
    """Images of one record belong together: a forest of their keys."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}  # only of keys that are not their own root

    def root(self, key: int) -> int:
        while key in self._above:
            key = self._above[key]
        return key

    def join(self, keys: Iterable[int]) -> int:
        first, *others = dict.fromkeys(self.root(key) for key in keys)
        self._above.update(dict.fromkeys(others, first))
        return first


def _key(conversation: CustomConversation) -> int:
    images = conversation.images
    return _stable(images[0] if images else _text(conversation))


def _text(conversation: CustomConversation) -> str:
    """The key of a record of text, in place of an image: its first question."""
    turns = conversation.made.turns
    return "text: " + next(turn.text for turn in turns if turn.role == "user")


def _stable(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
