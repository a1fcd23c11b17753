"""Pictures that stand in a row as base64: one file a picture, named by its content, so that
captions share it.
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
from cotbal.data.pictures import decode

_QUALITY = 95


def kept_picture(row: Row, key: str, folder: str, gallery: Gallery) -> str | None:
    """Write the picture of a row, unless it is there, and return its name; None for a row without a
    picture.

    Two pictures become one, side by side (NLVR): the models of the paper read one. Where one of two
    is empty, the row lacks a picture, and is counted so.

    Raises:
        DataError: the key holds no list of base64 texts, or more than two pictures.
    """
    texts = _texts(row, key)
    if not any(texts):
        return None
    pictures = [_decoded(text, row, key) for text in texts]
    if len(pictures) > 2:
        raise row.refuse(f"{key}: expected at most two pictures; found {len(pictures)}")
    if len(pictures) == 2:
        name = f"{folder}/{hashlib.sha256(b''.join(pictures)).hexdigest()[:20]}.jpg"
        if not gallery.has(name):
            gallery.keep(name, side_by_side(pictures))
        return name
    name = content_name(folder, pictures[0])
    gallery.keep(name, pictures[0])
    return name


def _texts(row: Row, key: str) -> list[str]:
    """What stands at the key; a table has null where there is no list, or no picture in it."""
    value = row.fields.get(key)
    if value is None and key in row.fields:
        return []
    filled = ["" if each is None else each for each in value] if isinstance(value, list) else value
    return replace(row, fields={key: filled}).texts(key)


def _decoded(text: str, row: Row, key: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # broken base64, or letters that are not ASCII
        raise row.refuse(f"{key}: expected a picture in base64; found {ascii(text)[:40]}") from None


def side_by_side(pictures: Sequence[bytes]) -> bytes:
    """One JPEG of several pictures, each as high as the highest; empty if one of them is no
    picture.
    """
    try:
        opened = [decode(io.BytesIO(content)) for content in pictures]
    except Exception:  # Pillow's decoders raise errors of many kinds on broken data
        return b""
    height = max(each.height for each in opened)
    scaled = [
        each.resize((max(1, round(each.width * height / each.height)), height)) for each in opened
    ]
    whole = Image.new("RGB", (sum(each.width for each in scaled), height))
    left = 0
    for each in scaled:
        whole.paste(each, (left, 0))
        left += each.width
    content = io.BytesIO()
    whole.save(content, "JPEG", quality=_QUALITY)
    return content.getvalue()
