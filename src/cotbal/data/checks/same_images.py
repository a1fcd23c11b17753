"""Which names belong to one image: other spellings of a path, links, and copies of a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from cotbal.data.reading.images import resolve
from cotbal.data.threads import in_threads

_ENDS = 4096  # bytes at either end of a file that are compared before its whole content
_CHUNK = 4096  # files between two reports of progress

Progress = Callable[[int, int], None]  # files read, files to read


def same_images(
    root: Path,
    names: Sequence[str],
    contents: bool = True,
    progress: Progress = lambda _done, _total: None,
) -> np.ndarray:
    """For every name the index of the first name of the same image; int64, shape [name].

    Two names are one image when they lead to one file (`p.png`, `./p.png`, a link, another letter
    case where the file system ignores it) or to files of equal bytes. Only files of equal size are
    read, and of these only the ends, unless the ends are equal too. Names without a file are
    compared as normalised paths.

    Args:
        root: the images of the recipe.
        contents: False compares files, not their bytes.
    """
    paths = [resolve(root, name) for name in names]
    first: dict[Hashable, int] = {}
    files = np.zeros(len(paths), np.int64)
    for i, path in enumerate(paths):
        files[i] = first.setdefault(_file(path), i)
    label = np.arange(len(paths))
    if contents:
        for group in _equal_files(paths, list(first.values()), progress):
            label[group] = group[0]
    same: np.ndarray = label[files]
    return same


def _equal_files(
    paths: Sequence[Path], indices: Sequence[int], progress: Progress
) -> list[list[int]]:
    """Groups of two or more indices whose files have equal bytes."""
    sizes = {i: _size(paths[i]) for i in indices}
    groups = [*_repeated([i for i in indices if sizes[i]], sizes)]
    for read in (_ends, _whole):
        keys = _keys(paths, [i for group in groups for i in group], read, progress)
        groups = [equal for group in groups for equal in _repeated(group, keys)]
    return groups


def _file(path: Path) -> Hashable:
    """Device and number of a file; where there is none, its path."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return os.path.normpath(path)
    return facts.st_dev, facts.st_ino


def _size(path: Path) -> int:
    with suppress(OSError, ValueError):
        return os.path.getsize(path)
    return 0


def _repeated(indices: Sequence[int], keys: Mapping[int, Hashable]) -> Iterator[list[int]]:
    """Groups of two or more indices whose keys are equal."""
    groups: dict[Hashable, list[int]] = {}
    for i in indices:
        groups.setdefault(keys[i], []).append(i)
    yield from (group for group in groups.values() if len(group) > 1)


def _keys(
    paths: Sequence[Path],
    indices: Sequence[int],
    read: Callable[[Path], Hashable],
    progress: Progress,
) -> dict[int, Hashable]:
    keys: dict[int, Hashable] = {}
    for start in range(0, len(indices), _CHUNK):
        progress(start, len(indices))
        chunk = indices[start : start + _CHUNK]
        contents = in_threads(read, [paths[i] for i in chunk], os.cpu_count())
        keys.update(zip(chunk, contents, strict=True))
    return keys


def _ends(path: Path) -> Hashable:
    with suppress(OSError), path.open("rb") as file:
        head = file.read(_ENDS)
        file.seek(-min(_ENDS, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return hashlib.blake2b(head + file.read(_ENDS), digest_size=8).digest()
    return path  # cannot be read: equal to no other


def _whole(path: Path) -> Hashable:
    with suppress(OSError), path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
    return path
