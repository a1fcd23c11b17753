"""Images of the examples, small enough to be part of the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from cotbal.data.reading.images import open_image
from cotbal.errors import DataError

SIDE = 224  # pixels
LIMIT = 20_000  # bytes of one image


def data_uri(path: Path) -> str | None:
    """A thumbnail as a `data:` address, or None where there is no readable image.

    A report is also read after a failure, so a broken image does not raise an error.
    """
    try:
        small = open_image(path)
    except DataError:
        return None
    small.thumbnail((SIDE, SIDE))
    kind, content = _encode(small)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _encode(image: Image.Image) -> tuple[str, bytes]:
    """Lossless for drawings, which stay small so; JPEG for what does not fit."""
    content = _saved(image, "PNG", optimize=True)
    if len(content) <= LIMIT:
        return "png", content
    for quality in (80, 60, 40):
        content = _saved(image, "JPEG", quality=quality)
        if len(content) <= LIMIT:
            break
    return "jpeg", content


def _saved(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
