"""Which names belong to one image: other spellings of a path, links, and copies of a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from cotbal.data.reading.images import resolve

_ENDS = 4096  # bytes at either end of a file that are compared before its whole content
_CHUNK = 4096  # files between two reports of progress
_MIX = np.uint64(0x9E3779B97F4A7C15)

Progress = Callable[[int, int], None]  # files read, files to read


def same_images(
    root: Path,
    names: Sequence[str],
    contents: bool = True,
    progress: Progress = lambda _done, _total: None,
) -> np.ndarray:
    """For every name the place of the first name of the same image; int64, shape [name].

    Two names are one image when they lead to one file (`p.png`, `./p.png`, a link, another letter
    case where the file system ignores it) or to files of equal bytes. Only files of equal size are
    read, and of these only the ends, unless the ends are equal too. Names without a file are
    compared as normalised paths.

    Args:
        root: the images of the recipe.
        contents: False compares files, not their bytes.
    """
    paths = [resolve(root, name) for name in names]
    facts = np.array([_facts(path) for path in paths], np.int64).reshape(-1, 2)
    sizes, labels = facts[:, 0], _firsts(facts[:, 1])
    if contents:
        places = _repeated(np.unique(labels[sizes > 0]), sizes)
        places = _repeated(places, _keys(paths, places, _ends, sizes, progress))
        labels = _merged(labels, places, _keys(paths, places, _whole, sizes, progress))
    return labels


def _keys(
    paths: Sequence[Path],
    places: np.ndarray,
    read: Callable[[Path], int],
    sizes: np.ndarray,
    progress: Progress,
) -> np.ndarray:
    """Size and a hash of content as one number, of the files at `places`; shape [name]."""
    keys = np.zeros(len(sizes), np.int64)
    keys[places] = _hashes([paths[place] for place in places], read, progress)
    found: np.ndarray = (keys.view(np.uint64) + sizes.view(np.uint64) * _MIX).view(np.int64)
    return found


def _facts(path: Path) -> tuple[int, int]:
    """Size of a file and a number for it; where there is none, -1 and a number for its path."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return -1, hash(os.path.normpath(path))
    return facts.st_size, hash((facts.st_dev, facts.st_ino))


def _firsts(keys: np.ndarray) -> np.ndarray:
    """For every key the place where it occurs first."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    found: np.ndarray = first[inverse]
    return found


def _repeated(places: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Those of `places` whose key another of them has too."""
    _, inverse, counts = np.unique(keys[places], return_inverse=True, return_counts=True)
    found: np.ndarray = places[counts[inverse] > 1]
    return found


def _merged(labels: np.ndarray, places: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Labels in which places of equal keys have that of the first of them."""
    to = np.arange(len(labels))
    if len(places):
        to[places] = places[_firsts(keys[places])]
    found: np.ndarray = to[labels]
    return found


def _hashes(paths: Sequence[Path], read: Callable[[Path], int], progress: Progress) -> list[int]:
    found: list[int] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), _CHUNK):
            progress(start, len(paths))
            found += pool.map(read, paths[start : start + _CHUNK])
    return found


def _ends(path: Path) -> int:
    with suppress(OSError), path.open("rb") as file:
        head = file.read(_ENDS)
        file.seek(-min(_ENDS, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return _number(hashlib.blake2b(head + file.read(_ENDS), digest_size=8).digest())
    return hash(path)  # cannot be read: equal to no other


def _whole(path: Path) -> int:
    with suppress(OSError), path.open("rb") as file:
        return _number(hashlib.file_digest(file, "blake2b").digest()[:8])
    return hash(path)


def _number(digest: bytes) -> int:
    return int.from_bytes(digest, signed=True)
