"""Keys of a record that nothing reads: which of them may change the meaning of the record.

A plain annotation (origin or kind of a record) is not reported. The rules were
chosen so that the keys of LLaVA's mixtures, LLaVA-OneVision, M4-Instruct, InternVL, ALLaVA,
Cambrian and OpenHermes are annotations, and those by which ms-swift, LLaMA-Factory and axolotl
change a conversation are not:

* null and empty values;
* a number or a truth value, unless its name says that it steers loss or the size of images;
* text, lists and mappings whose name ends with a word such as `id`, `source`, `url`, `category`,
  `metadata`: `question_id`, `data_source`, `width_list`.

The name of an image, video or audio file is never one, nor is any other text: it may be a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cotbal.data.reading.values import is_filled

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
_STEERING = frozenset(
    {"loss", "train", "training", "weight", "weights", "mask", "label", "labels", "pixels"}
    | {"resized", "scale"}
)
_ANNOTATIONS = frozenset(
    {"id", "ids", "idx", "index", "uid", "uuid", "guid", "key", "hash", "md5", "sha256", "checksum"}
    | {"source", "sources", "src", "dataset", "origin", "provenance", "channel", "corpus"}
    | {"url", "urls", "uri", "link", "links", "license", "licence", "copyright", "credit", "author"}
    | {"category", "categories", "class", "type", "types", "kind", "tag", "tags", "keywords"}
    | {"topic", "topics", "domain", "subject", "genre", "group", "subset", "split", "partition"}
    | {"name", "names", "title", "model", "version", "generator", "annotator", "worker"}
    | {"lang", "language", "languages", "locale", "difficulty", "level", "quality", "score"}
    | {"scores", "rating", "ratings", "width", "widths", "height", "heights", "size", "sizes"}
    | {"shape", "resolution", "wh", "count", "length", "status", "date", "time"}
    | {"timestamp", "created", "updated", "meta", "metadata", "info", "comment", "note", "notes"}
)
_MEDIA = re.compile(
    r"\S.*\.(?:png|jpe?g|gif|bmp|webp|tiff?|jfif|svg|mp4|avi|mov|mkv|webm|wav|mp3|flac|ogg|m4a)",
    re.IGNORECASE,
)


def unread(fields: Mapping[Any, Any], read: Collection[str], prefix: str = "") -> Iterator[str]:
    """Names of the keys of `fields` that are neither in `read` nor plain annotations.

    Args:
        prefix: what is put before each name, such as `conversations[].`.
    """
    for key, value in fields.items():
        if key not in read and not is_annotation(str(key), value):
            yield f"{prefix}{key}"


def is_annotation(key: str, value: Any) -> bool:
    """Whether a key with this value describes a record and changes nothing in it."""
    words = [word.lower() for word in _WORDS.findall(key)]
    if isinstance(value, bool | int | float):
        return not _STEERING.intersection(words)
    if not is_filled(value):
        return True
    is_media = isinstance(value, str) and _MEDIA.fullmatch(value)
    if is_media and words[-1:] not in (["url"], ["uri"]):
        return False
    telling = [word for word in words if word not in ("list", "lists")]
    return bool(telling) and telling[-1] in _ANNOTATIONS
