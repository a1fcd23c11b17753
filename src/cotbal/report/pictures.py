"""Pictures of the examples, small enough to live inside the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from cotbal.data.pictures import open_picture
from cotbal.errors import DataError

SIDE = 224  # pixels
LIMIT = 20_000  # bytes of one picture


def data_uri(path: Path) -> str | None:
    """A thumbnail as a `data:` address, or None where there is no readable picture.

    A report is also read when something went wrong, so a broken picture is no reason to fail.
    """
    try:
        small = open_picture(path)
    except DataError:
        return None
    small.thumbnail((SIDE, SIDE))
    kind, content = _encode(small)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _encode(picture: Image.Image) -> tuple[str, bytes]:
    """Lossless for drawings, which stay small so; JPEG for what does not fit."""
    content = _saved(picture, "PNG", optimize=True)
    if len(content) <= LIMIT:
        return "png", content
    for quality in (80, 60, 40):
        content = _saved(picture, "JPEG", quality=quality)
        if len(content) <= LIMIT:
            break
    return "jpeg", content


def _saved(picture: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
