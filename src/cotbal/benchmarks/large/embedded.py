"""Images that a row embeds as base64: one file per image, named by its content, so that captions
share it.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from cotbal.benchmarks.releases.gallery import Gallery, content_name
from cotbal.benchmarks.releases.rows import Row
from cotbal.data.reading.images import decode

_QUALITY = 95


def write_image(row: Row, key: str, folder: str, gallery: Gallery) -> str | None:
    """Write the image of a row, unless it is there, and return its name; None for a row without an
    image.

    Two images become one, side by side (NLVR): the models of the paper read one. Where one of two
    is empty, the row lacks an image, and is counted so.

    Raises:
        DataError: the key holds no list of base64 texts, or more than two images.
    """
    texts = _texts(row, key)
    if not any(texts):
        return None
    images = [_decoded(text, row, key) for text in texts]
    if len(images) > 2:
        raise row.error(f"{key}: expected at most two images; found {len(images)}", "wrong-type")
    if len(images) == 1:
        name = content_name(folder, images[0])
        gallery.keep(name, images[0])
        return name
    name = f"{folder}/{hashlib.sha256(b''.join(images)).hexdigest()[:20]}.jpg"
    if not gallery.has(name):
        gallery.keep(name, side_by_side(images))
    return name


def _texts(row: Row, key: str) -> list[str]:
    """The list at the key; a table has null where there is no list, or no image in it."""
    if key not in row.fields:
        return row.texts(key)
    value = row.fields[key]
    if value is None:
        return []
    if isinstance(value, list):
        value = ["" if text is None else text for text in value]
    return replace(row, fields={key: value}).texts(key)


def _decoded(text: str, row: Row, key: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # broken base64, or letters that are not ASCII
        raise row.error(
            f"{key}: expected an image in base64; found {ascii(text)[:40]}", "wrong-type"
        ) from None


def side_by_side(contents: Sequence[bytes]) -> bytes:
    """One JPEG of several images, each as high as the highest; empty if one of them is no image."""
    try:
        images = [decode(io.BytesIO(content)) for content in contents]
    except Exception:  # Pillow's decoders raise errors of many kinds on broken data
        return b""
    height = max(image.height for image in images)
    scaled = []
    for image in images:
        width = max(1, round(image.width * height / image.height))
        scaled.append(image.resize((width, height)))
    whole = Image.new("RGB", (sum(image.width for image in scaled), height))
    left = 0
    for image in scaled:
        whole.paste(image, (left, 0))
        left += image.width
    content = io.BytesIO()
    whole.save(content, "JPEG", quality=_QUALITY)
    return content.getvalue()
