"""Images, videos and audio in a raw record: names of image files, and what is not supported."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from cotbal.data.reading.values import is_text, show
from cotbal.errors import DataError

Keep = Callable[[bytes], str]  # stores an embedded image and returns the name for it

PART_KEYS = ("image", "path", "url", "image_url")
OTHER_MEDIA = ("video", "videos", "audio", "audios")
NOT_SUPPORTED = "expected images only, video and audio are not supported"
_MARKER = re.compile(
    r"\A\s*<(video|audio)>|^[ \t]*<(video|audio)>[ \t]*$|<(video|audio)>\s*\Z", re.MULTILINE
)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{200,}={0,2}\s*")
_LONGEST_NAME = 4096  # bytes, PATH_MAX of Linux


def other_medium(text: str) -> str | None:
    """A marker such as `<video>` that begins or ends the text or has a line of its own.

    Inside a line, or with `</video>`, it is a word about HTML.
    """
    if "<video>" not in text and "<audio>" not in text:
        return None
    kinds = [kind for groups in _MARKER.findall(text) for kind in groups if kind]
    return next((f"<{kind}>" for kind in kinds if f"</{kind}>" not in text), None)


def part_image(part: Mapping[str, Any]) -> tuple[str, Any]:
    """The key of an image part that names its image, and its value: a name, a mapping with bytes or
    path, or None.
    """
    for key in PART_KEYS:
        if part.get(key) is not None:
            value = part[key]
            return key, value["url"] if isinstance(value, dict) and "url" in value else value
    return "", None


def image_name(image: Any, keep: Keep) -> str:
    """The name of an image file.

    Raises:
        DataError: `image` does not name a local file, or `keep` rejects the embedded bytes.
    """
    if isinstance(image, dict) and isinstance(image.get("bytes"), bytes):
        return keep(image["bytes"])
    name = image.get("path") if isinstance(image, dict) else image
    expected = "expected the name of a local image file"
    if not is_text(name) or not name:
        raise DataError(f"{expected}; found {show(name)}", "invalid-image-name")
    if _BASE64.fullmatch(name) or len(name.encode()) > _LONGEST_NAME:
        raise DataError(
            f"{expected}; found {len(name):,} characters, which begin {name[:20]!r}: save images in"
            " base64 as files",
            "invalid-image-name",
        )
    if name.startswith(("http://", "https://", "data:", "embedded:")):
        raise DataError(f"{expected}; found {show(name)}: download it", "invalid-image-name")
    return str(name)
