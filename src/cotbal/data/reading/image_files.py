"""Which image files are opened: by format and by number of pixels, whatever their names say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile

# Others run programs (EPS: Ghostscript), or hold no photographs and drawings.
_FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI"),
    *("TGA", "TIFF", "WEBP"),
)
MOST_PIXELS = 2**26  # an image of more takes over a gigabyte


def opened(source: Path | BinaryIO) -> ImageFile.ImageFile:
    """An image of which the header alone was read.

    Raises:
        Exception: of many kinds, by Pillow's decoders; ValueError for more pixels than
            `MOST_PIXELS`, or than the variable COTBAL_MAX_PIXELS says.
    """
    Image.init()
    known = [name for name in _FORMATS if name in Image.OPEN]  # depends on the version of Pillow
    image = Image.open(source, formats=known)
    limit = int(os.environ.get("COTBAL_MAX_PIXELS") or MOST_PIXELS)
    if image.width * image.height > limit:
        image.close()
        raise ValueError(
            f"{image.width} x {image.height} pixels are more than {limit:,}; make it smaller, or"
            " set the environment variable COTBAL_MAX_PIXELS"
        )
    return image
