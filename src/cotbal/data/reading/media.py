"""What a record says of images, and that it has no video or audio."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cotbal.data.reading.values import is_filled, is_text, show
from cotbal.errors import DataError

Keep = Callable[[bytes], str]

PART_KEYS = ("image", "path", "url", "image_url")
OTHER_MEDIA = ("video", "videos", "audio", "audios")
_MARKER = re.compile(
    r"\A\s*<(video|audio)>|^[ \t]*<(video|audio)>[ \t]*$|<(video|audio)>\s*\Z", re.MULTILINE
)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{200,}={0,2}\s*")
_LONGEST_NAME = 4096  # bytes, PATH_MAX of Linux


def problems_of_columns(raw: Mapping[str, Any]) -> Iterator[str]:
    """An error for each column with videos or audio."""
    for key in OTHER_MEDIA:
        if is_filled(raw.get(key)):
            yield (
                f"{key}: expected images only, video and audio are not supported; found"
                f" {show(raw[key])}"
            )


def problem_of_markers(text: str) -> str | None:
    """An error where a marker such as `<video>` begins or ends the text or has a line of its own.

    Inside a line, or with `</video>`, it is a word about HTML.
    """
    if "<video>" not in text and "<audio>" not in text:
        return None
    kinds = [kind for groups in _MARKER.findall(text) for kind in groups if kind]
    kind = next((kind for kind in kinds if f"</{kind}>" not in text), None)
    if kind is None:
        return None
    return f"expected images only, video and audio are not supported; found the marker <{kind}>"


def image_columns(raw: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The images that `image` and `images` list, and the key that lists them.

    Raises:
        DataError: both list some, and not the same ones.
    """
    columns = {key: _listed(raw.get(key)) for key in ("images", "image")}
    filled = {key: images for key, images in columns.items() if is_filled(images)}
    if len(filled) > 1 and columns["image"] != columns["images"]:
        raise DataError(
            "expected `image` or `images`, or the same images in both; found image"
            f" {show(raw['image'])} and images {show(raw['images'])}"
        )
    key = next(iter(filled), "images" if raw.get("images") is not None else "image")
    return key, columns[key]


def _listed(column: Any) -> list[Any]:
    if column is None:
        return []
    return column if isinstance(column, list) else [column]


def part_image(part: Mapping[str, Any]) -> tuple[str, Any]:
    """The key under which an image part names its image, and what is there: a name, a mapping with
    bytes or path, or None.
    """
    for key in PART_KEYS:
        if part.get(key) is not None:
            nested = part[key]
            return key, nested["url"] if isinstance(nested, dict) and "url" in nested else nested
    return "", None


def image_name(image: Any, keep: Keep) -> str | DataError:
    """The name of an image file, or why there is none.

    Args:
        keep: stores the bytes of an embedded image and returns the name for it; raises DataError
            if they are none.
    """
    if isinstance(image, dict) and isinstance(image.get("bytes"), bytes):
        try:
            return keep(image["bytes"])
        except DataError as error:
            return error
    name = image.get("path") if isinstance(image, dict) else image
    if not is_text(name) or not name:
        return DataError(f"expected the name of an image file; found {show(name)}")
    if _BASE64.fullmatch(name) or len(name.encode()) > _LONGEST_NAME:
        return DataError(
            f"expected the name of an image file; found {len(name):,} characters, which begin"
            f" {name[:20]!r}: save images in base64 as files"
        )
    if name.startswith(("http://", "https://", "data:")):
        return DataError(f"expected the name of a local image file; found {show(name)}")
    return str(name)
