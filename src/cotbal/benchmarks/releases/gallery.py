"""The images of a benchmark below one root: links to what the user has, and files for what came
inside a snapshot.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from cotbal.benchmarks.releases.finding import directory
from cotbal.data.reading.image_files import opened
from cotbal.errors import DataError

_ENDINGS = ((b"\x89PNG", "png"), (b"GIF8", "gif"), (b"RIFF", "webp"), (b"BM", "bmp"))
_LONGEST_PART = 255  # bytes of a file's name


class Gallery:
    """One root of images. What the user has is linked, never copied and never written into.

    Args:
        root: where the records' names of images begin.
        given: the user's own images in the same layout, or None.
    """

    def __init__(self, root: Path, given: Path | None) -> None:
        self.root = root
        self._given = given
        self._folders: dict[str, tuple[str, ...]] = {}
        # by hash of the name: a million names would take too much memory
        self._seen: dict[int, bool] = {}
        root.mkdir(parents=True, exist_ok=True)

    def offer(self, folders: Iterable[str]) -> None:
        """Link every one of these folders that the user's own images have and the root does
        not."""
        for folder in folders:
            target = None if self._given is None else directory(self._given, folder)
            if target is not None:
                self.link(folder, target)

    def link(self, folder: str, target: Path) -> None:
        """Let `folder` below the root be the directory `target`, unless there is a directory
        already.

        Raises:
            DataError: the folder is linked to another directory that is still there.
        """
        link = self.root / folder
        if link.exists() and link.resolve() == target.resolve():
            return
        if link.is_symlink() and link.exists():
            raise DataError(
                f"{link}: linked to {link.resolve()}, but this run has these images in"
                f" {target}; remove the link, or prepare into another directory",
                "existing-output",
            )
        if link.is_symlink():
            link.unlink()
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target.resolve(), target_is_directory=True)
            self._seen.clear()
            self._folders.clear()

    def has(self, name: str) -> bool:
        """Whether the image called `name` is there."""
        key = hash(name)
        if key not in self._seen:
            # False for a name that cannot be one, too
            self._seen[key] = os.path.isfile(self.root / name)
        return self._seen[key]

    def folders(self, name: str) -> tuple[str, ...]:
        """Names of the folders in a folder, in order; none if there is no such folder."""
        if name not in self._folders:
            folder = self.root / name
            entries = os.scandir(folder) if folder.is_dir() else ()
            self._folders[name] = tuple(sorted(e.name for e in entries if e.is_dir()))
        return self._folders[name]

    def keep(self, name: str, content: bytes) -> None:
        """Write an image that came inside a snapshot, unless it is there or its folder is the
        user's own.

        What is no image is not written: it is missing then, and counted as missing.
        """
        target = self.root / name
        inside = target.parent.resolve().is_relative_to(self.root.resolve())
        if self.has(name) or not inside or not _opens(content):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{os.getpid()}.part")
        part.write_bytes(content)
        os.replace(part, target)
        self._seen[hash(name)] = True


def content_name(folder: str, content: bytes) -> str:
    """The name of an image whose release gives it none: by its content, so that equal bytes are
    one image.
    """
    ending = next((ending for start, ending in _ENDINGS if content.startswith(start)), "jpg")
    return f"{folder}/{hashlib.sha256(content).hexdigest()[:20]}.{ending}"


def _opens(content: bytes) -> bool:
    try:
        with opened(io.BytesIO(content)):
            return True
    except Exception:  # Pillow's decoders raise errors of many kinds on broken data
        return False


def image_id(name: str) -> str:
    """The part of an image's name that identifies it in its folder, in every release of COCO."""
    return PurePosixPath(name).stem.removeprefix("COCO_train2014_").removeprefix("COCO_val2014_")


def inside(name: str, where: str) -> str:
    """The name of an image, if it leads to a file below the root of images.

    Raises:
        DataError: it is absolute or leads upward; `where` is the row that names it.
    """
    parts = name.replace("\\", "/").split("/")
    if "\0" in name or ":" in parts[0] or not all(map(_is_name, parts)):
        raise DataError(
            f"{where}: expected the name of an image below one root; found {ascii(name)[:80]}",
            "invalid-name",
        )
    return name


def _is_name(part: str) -> bool:
    """Whether a file or folder may have this name on every file system in use."""
    return part not in ("", "..") and len(part.encode("utf-8", "replace")) <= _LONGEST_PART


def coco_2014(gallery: Gallery, image_id: int, split: str) -> str:
    """The name of the image of a COCO 2014 id, wherever it is; `split` is train2014 or val2014.

    Every train2014 image is in train2017; of val2014, five thousand are in val2017 and the others
    in train2017.
    """
    folders = ("train2017",) if split == "train2014" else ("val2017", "train2017")
    new = [f"coco/{folder}/{image_id:012d}.jpg" for folder in folders]
    old = f"coco/{split}/COCO_{split}_{image_id:012d}.jpg"
    absent = new[0] if split == "train2014" else old
    for name in (*new, old):
        if gallery.has(name):
            return name
    return absent
