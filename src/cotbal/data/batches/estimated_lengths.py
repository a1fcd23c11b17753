"""Tokens of a row, estimated from its text and the sizes of its images, without making the row."""

from __future__ import annotations

import math
import sys
from copy import copy
from functools import cached_property, lru_cache
from pathlib import Path

from PIL import Image

from cotbal.data.batches.collate import Collator, Row
from cotbal.data.reading.images import Size, resolve, size_of
from cotbal.data.reading.recent_images import RecentImages
from cotbal.data.reading.record import IMAGE, Record, Turn
from cotbal.errors import DataError

_OCTAVE = 8  # steps in which a side doubles: sizes closer than 9 % count as one
_SAMPLES = ((64, 64), (640, 480), (300, 1200))  # width and height in pixels
_KEPT = 100_000  # names of images whose tokens are remembered
_TURNS = (Turn("user", f"{IMAGE}\nquestion"), Turn("assistant", "answer"))
_EXAMPLE = Row(Record("blank", None, ("blank",), _TURNS, ("answer",), 0), "", None)


class EstimatedLengths:
    """Tokens of rows as `collator` makes them for training, images included, about.

    Text is tokenised. An image counts what a blank one of about its size becomes, so few images are
    processed, and a row has the same estimate in every process. If blank images of different sizes
    become equally many tokens, no image is opened.
    """

    def __init__(self, collator: Collator) -> None:
        self._collator = collator
        self._of_name = lru_cache(_KEPT)(self._of_image)
        self._of_size = lru_cache(None)(self._of_blank)

    def __call__(self, row: Row) -> int:
        """Tokens of a row; at most `max_length`."""
        ids, _ = self._collator.plain(row)
        images = sum(self._of_name(name) for name in row.record.images)
        return min(len(ids) + images, self._collator.max_length)

    def _of_image(self, name: str) -> int:
        """Tokens of an image beyond its placeholder; 0 if it cannot be used, which is an error when
        the batch is made.
        """
        if self._constant is not None:
            return self._constant
        try:
            size = size_of(resolve(self._collator.images, name))
        except DataError:
            return 0
        return self._of_size(rounded(size))

    @cached_property
    def _constant(self) -> int | None:
        """Tokens of every image, None where they depend on its size."""
        counts = {self._of_size(size) for size in _SAMPLES}
        return counts.pop() if len(counts) == 1 else None

    def _of_blank(self, size: Size) -> int:
        collator = copy(self._collator)
        collator.recent = _Blank(size)
        collator.max_length = sys.maxsize
        try:
            length = collator.training([_EXAMPLE])["input_ids"].shape[1]
        except DataError:
            return 0
        return int(length) - len(collator.plain(_EXAMPLE)[0])


def rounded(size: Size) -> Size:
    """The next size up of a grid on which every side doubles in 8 steps."""
    width, height = (math.ceil(2 ** (math.ceil(_OCTAVE * math.log2(n)) / _OCTAVE)) for n in size)
    return width, height


class _Blank(RecentImages):
    """Opens a blank image in place of every other one."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self._size = size

    def open(self, path: Path) -> Image.Image:  # noqa: ARG002
        return Image.new("RGB", self._size)
