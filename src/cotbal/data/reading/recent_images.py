"""Images that several records name, decoded once while they are kept."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from cotbal.data.reading.images import open_image

BUDGET = 2**26  # bytes: some 70 photographs of 640 x 480, or 9,000 drawings of 48 x 48
CHANNELS = 3


class RecentImages:
    """Decoded images, the latest first to be found again; the oldest leave where memory ends.

    Args:
        budget: bytes of all images together.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._bytes = 0
        self._kept: dict[tuple[str, int, int], Image.Image] = {}

    def open(self, path: Path) -> Image.Image:
        """The image at `path` as `open_image` gives it, which the caller may change.

        Raises:
            DataError: as by `open_image`.
        """
        try:
            state = os.stat(path)
        except OSError:
            return open_image(path)  # an error that names the file
        key = (str(path), state.st_size, state.st_mtime_ns)
        image = self._kept.pop(key, None)
        if image is None:
            image = open_image(path)
            self._bytes += _size(image)
        self._kept[key] = image
        while self._bytes > self._budget:
            oldest = next(iter(self._kept))
            self._bytes -= _size(self._kept.pop(oldest))
        return image.copy()


def _size(image: Image.Image) -> int:
    return image.width * image.height * CHANNELS
