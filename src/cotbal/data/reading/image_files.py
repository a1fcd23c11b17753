"""Which image files are opened: by format and by number of pixels, whatever their names say."""

from __future__ import annotations

import importlib
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile

# Others run programs (EPS: Ghostscript), decode before the number of pixels is known (ICO), or hold
# no photographs and drawings. `Image.init` would import the plugins of all.
_PLUGINS = {
    "AVIF": "Avif",
    "BMP": "Bmp",
    "DIB": "Bmp",
    "GIF": "Gif",
    "JPEG": "Jpeg",
    "JPEG2000": "Jpeg2K",
    "PCX": "Pcx",
    "PNG": "Png",
    "PPM": "Ppm",
    "QOI": "Qoi",
    "SGI": "Sgi",
    "TGA": "Tga",
    "TIFF": "Tiff",
    "WEBP": "WebP",
}
MOST_PIXELS = 2**26  # an image of more takes over a gigabyte


def opened(source: Path | BinaryIO) -> ImageFile.ImageFile:
    """An image of which the header alone was read.

    Raises:
        Exception: of many kinds, by Pillow's decoders; ValueError for more pixels than
            `MOST_PIXELS`, or than the variable COTBAL_MAX_PIXELS says.
    """
    image = Image.open(source, formats=_formats())
    limit = int(os.environ.get("COTBAL_MAX_PIXELS") or MOST_PIXELS)
    if image.width * image.height > limit:
        image.close()
        raise ValueError(
            f"{image.width} x {image.height} pixels are more than {limit:,}; make it smaller, or"
            " set the environment variable COTBAL_MAX_PIXELS"
        )
    return image


@cache
def _formats() -> list[str]:
    """The formats that this version of Pillow reads, with their plugins imported."""
    for plugin in _PLUGINS.values():
        with suppress(ImportError):
            importlib.import_module(f"PIL.{plugin}ImagePlugin")
    return [name for name in _PLUGINS if name in Image.OPEN]
