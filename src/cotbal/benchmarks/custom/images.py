"""Which image a row of the user's own shows: the column that names it, and the file it names.

A row may name its image in `image` or `images`, in a part of a turn, in the column that the user
names (`--image`), or in one with a usual name such as `imgname`. The name is that of a file below
`--images`, beside the file of the row, or in a folder above that or beside it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cotbal.benchmarks.releases.finding import files_below
from cotbal.benchmarks.releases.gallery import Gallery, inside
from cotbal.errors import DataError

GIVEN, RAW = "given", "raw"  # folders below the root of images: those of --images, and of RAW
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_COLUMNS = ("image", "images")
_TURNS = {"messages": "content", "conversations": "value"}
_USUAL = re.compile(r"(image|img|pic|picture|photo|file)(s|path|name|file|filename|id)?|identifier")
_BARE = re.compile(r"[\w\-]+(/[\w\-]+)*")  # a name without an ending
_LONGEST = 1000  # characters of a name; what is longer is text


def names_image(value: Any) -> bool:
    """Whether a value of a row is an image: a name with the ending of one, an embedded one, or a
    list of these.
    """
    if isinstance(value, dict):
        return isinstance(value.get("bytes"), bytes) or names_image(value.get("path"))
    if isinstance(value, list):
        return bool(value) and all(map(names_image, value))
    if isinstance(value, str) and len(value) < _LONGEST and "\n" not in value:
        return PurePosixPath(value.lower()).suffix in ENDINGS
    return isinstance(value, bytes)


@dataclass(frozen=True)
class Finder:
    """Finds the files of the images that one row names.

    Attributes:
        path: file of the row, below `raw`.
        raw: folder of the dataset.
        gallery: where images are looked for, `raw` and --images linked below its root.
        place: file and number of the row, for messages.
    """

    path: Path
    raw: Path
    gallery: Gallery
    place: str

    def located(self, name: str) -> str:
        """The name of an image below the root of images; below --images where it is nowhere.

        Raises:
            DataError: see `find`.
        """
        if name.startswith("embedded/") or Path(name).is_absolute():
            return name
        return self.find(name) or f"{GIVEN}/{name}"

    def find(self, name: str) -> str | None:
        """The name of an image below the root of images, or None where there is no such file.

        Args:
            name: as the row has it; its ending may be missing.

        Raises:
            DataError: it is no name of a file, or two folders beside each other hold such a file.
        """
        ending = PurePosixPath(inside(name, self.place)).suffix.lower()
        names = [name] if ending in ENDINGS else [name, *(f"{name}{each}" for each in ENDINGS)]
        above = self.path.parent.relative_to(self.raw)
        folders = [PurePosixPath(RAW, folder) for folder in (above, *above.parents)]
        for folder in (PurePosixPath(GIVEN), *folders):
            if there := self._among(folder, [""], names):
                return there[0]
        for folder in folders:
            there = self._among(folder, self.gallery.folders(str(folder)), names)
            if len(there) > 1:
                raise DataError(
                    f"{self.place}: the image {name} is in {' and in '.join(there[:2])}; name the"
                    " right directory with --images"
                )
            if there:
                return there[0]
        return None

    def real(self, image: Any) -> str:
        """What tells an image from others, however it is named."""
        return os.path.realpath(self.gallery.root / image) if isinstance(image, str) else str(image)

    def _among(
        self, folder: PurePosixPath, below: Iterable[str], names: Iterable[str]
    ) -> list[str]:
        """The files of these names that are in `folder`, in some folder below it."""
        places = (str(folder / each / name) for each in below for name in names)
        return [place for place in places if self.gallery.has(place)]


def with_image(row: Any, key: str | None, finder: Finder) -> Any:
    """The row with its image in `image` or `images`, wherever it names one.

    Args:
        key: the column that the user names, or None; rows without it are read as if there were
            none.

    Raises:
        DataError: two columns name different images; or the row shows none, and a column that is
            not known holds the name of one.
    """
    if not isinstance(row, dict):
        return row
    shown = next((column for column in _COLUMNS if row.get(column)), None)
    if key in row and key not in _COLUMNS and row[key] is not None:
        if shown is not None:
            raise DataError(
                f"{finder.place}: expected its image in {key!r}; found one in {shown!r} too"
            )
        return _moved(row, str(key))
    if shown is not None or _shows_in_turns(row):
        return row
    images = {column: each for column in row if (each := _image(row, column, finder)) is not None}
    if len({finder.real(each) for each in images.values()}) > 1:
        raise DataError(
            f"{finder.place}: {' and '.join(images)} name different images; choose with --image"
        )
    if images:
        return _moved(row, next(iter(images)))
    if key not in _COLUMNS:
        _demand_no_image(row, finder.place)
    return row


def _demand_no_image(row: Mapping[str, Any], place: str) -> None:
    unknown = next((column for column, value in row.items() if names_image(value)), None)
    if unknown is not None:
        raise DataError(
            f"{place}: shows no image, but {unknown!r} holds {ascii(row[unknown])[:60]}; if that is"
            f" its image, give --image {unknown}; if images are in `image` alone, --image image"
        )


def _image(row: Mapping[str, Any], column: str, finder: Finder) -> Any:
    """What a column with a usual name shows: the place of its file, its value, or None."""
    value = row[column]
    if not _USUAL.fullmatch(re.sub("[^a-z]", "", column.lower())):
        return None
    if isinstance(value, str) and names_image(value):
        return finder.find(value) or value
    if isinstance(value, str | int) and _BARE.fullmatch(str(value)):
        return finder.find(str(value))
    return value if names_image(value) else None


def _moved(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    """The row with the value of `column` as its image."""
    value = {"bytes": row[column]} if isinstance(row[column], bytes) else row[column]
    value = str(value) if isinstance(value, int) else value
    kept = {name: each for name, each in row.items() if name not in (column, *_COLUMNS)}
    return {**kept, "images" if isinstance(value, list) else "image": value}


def _shows_in_turns(row: Mapping[str, Any]) -> bool:
    """Whether a part of a turn is an image."""
    turns = [turn for form in _TURNS for turn in row.get(form) or () if isinstance(turn, dict)]
    contents = (turn.get(key) for turn in turns for key in _TURNS.values())
    parts = (part for content in contents if isinstance(content, list) for part in content)
    return any(isinstance(part, dict) and "image" in str(part.get("type")) for part in parts)


def first_image(folder: Path) -> Path | None:
    """Some image below `folder`, if there is one."""
    files = files_below(folder) if folder.is_dir() else ()
    return next((path for path in files if path.suffix.lower() in ENDINGS), None)
