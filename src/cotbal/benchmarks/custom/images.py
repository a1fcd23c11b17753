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
        row: file and number of the row, for messages.
    """

    path: Path
    raw: Path
    gallery: Gallery
    row: str

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
        ending = PurePosixPath(inside(name, self.row)).suffix.lower()
        names = [name]
        if ending not in ENDINGS:
            names += [name + ending for ending in ENDINGS]
        above = self.path.parent.relative_to(self.raw)
        folders = [PurePosixPath(RAW, folder) for folder in (above, *above.parents)]
        for folder in (PurePosixPath(GIVEN), *folders):
            files = self._among(folder, [""], names)
            if files:
                return files[0]
        for folder in folders:
            files = self._among(folder, self.gallery.folders(str(folder)), names)
            if len(files) > 1:
                raise DataError(
                    f"{self.row}: the image {name} is in {' and in '.join(files[:2])}; name the"
                    " right directory with --images",
                    "ambiguous-image",
                )
            if files:
                return files[0]
        return None

    def real(self, image: Any) -> str:
        """The resolved path of an image, the same for every name of it."""
        if not isinstance(image, str):
            return str(image)
        return os.path.realpath(self.gallery.root / image)

    def _among(
        self, folder: PurePosixPath, below: Iterable[str], names: Iterable[str]
    ) -> list[str]:
        """The files of these names that are in one of the folders `below` a folder."""
        files = [str(folder / inner / name) for inner in below for name in names]
        return [file for file in files if self.gallery.has(file)]


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
    standard = next((column for column in _COLUMNS if row.get(column)), None)
    if key is not None and key not in _COLUMNS and row.get(key) is not None:
        if standard is not None:
            raise DataError(
                f"{finder.row}: expected its image in {key!r}; found one in {standard!r} too",
                "ambiguous-image",
            )
        return _moved(row, key)
    if standard is not None or _shows_in_turns(row):
        return row
    column = _usual_column(row, finder)
    if column is not None:
        return _moved(row, column)
    if key not in _COLUMNS:
        _demand_no_image(row, finder)
    return row


def _usual_column(row: Mapping[str, Any], finder: Finder) -> str | None:
    """The column with a usual name that holds the image of the row.

    Raises:
        DataError: several do, and name different images.
    """
    images = {column: _image(row, column, finder) for column in row}
    columns = [column for column, image in images.items() if image is not None]
    if len({finder.real(images[column]) for column in columns}) > 1:
        raise DataError(
            f"{finder.row}: {' and '.join(columns)} name different images; choose with --image",
            "ambiguous-image",
        )
    return columns[0] if columns else None


def _demand_no_image(row: Mapping[str, Any], finder: Finder) -> None:
    for column, value in row.items():
        if names_image(value):
            raise DataError(
                f"{finder.row}: shows no image, but {column!r} holds {ascii(value)[:60]}; if that"
                f" is its image, give --image {column}; if images are in `image` alone, --image"
                " image",
                "ambiguous-image",
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
    value = row[column]
    if isinstance(value, bytes):
        value = {"bytes": value}
    elif isinstance(value, int):
        value = str(value)
    moved = {name: row[name] for name in row if name not in (column, *_COLUMNS)}
    moved["images" if isinstance(value, list) else "image"] = value
    return moved


def _shows_in_turns(row: Mapping[str, Any]) -> bool:
    """Whether a part of a turn is an image."""
    for form in _TURNS:
        for turn in row.get(form) or ():
            if isinstance(turn, dict) and any(map(_shows_in_parts, map(turn.get, _TURNS.values()))):
                return True
    return False


def _shows_in_parts(content: Any) -> bool:
    if not isinstance(content, list):
        return False
    return any(isinstance(part, dict) and "image" in str(part.get("type")) for part in content)


def first_image(folder: Path) -> Path | None:
    """Some image below `folder`, if there is one."""
    files = files_below(folder) if folder.is_dir() else ()
    return next((path for path in files if path.suffix.lower() in ENDINGS), None)
