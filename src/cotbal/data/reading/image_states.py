"""What the images of a file of records are, so that replaced ones are noticed.

The state of an image is a hash of its size and of its first and last 4 KiB. States are kept with
sizes and times: an image whose size and time are those of before is not opened again, and one that
was copied elsewhere keeps its state.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from cotbal.data.files import temporary
from cotbal.data.reading.records import Records
from cotbal.data.threads import in_threads
from cotbal.errors import RunError

_EDGE = 4096  # bytes at either end
_WIDTH = 16  # bytes of a state
_CHUNK = 256
_THREADS = 8
_ARRAYS = ("names", "stat", "states")
_T = TypeVar("_T")


class ImageStates:
    """The states of the images of files of records, each computed once.

    Args:
        root: of the images of the recipe.
        kept: directory of the states of earlier commands, which `save` writes; None without.
        whole: hash every byte of every image, also of those whose size and time are known.
    """

    def __init__(self, root: Path, kept: Path | None = None, whole: bool = False) -> None:
        self._root = root
        self._kept = kept
        self._whole = whole
        self._of_records: dict[str, dict[str, np.ndarray]] = {}
        self._unsaved: dict[str, dict[str, np.ndarray]] = {}

    def entries(self, key: str, records: Records, indices: np.ndarray) -> dict[str, str]:
        """Digests of the images of these records, by kind; empty where none has an image.

        Args:
            key: names the file of records.
        """
        if key not in self._of_records:
            self._of_records[key] = self._read(key, records)
        rows = {kind: states[indices] for kind, states in self._of_records[key].items()}
        return {
            kind: hashlib.sha256(chosen.tobytes()).hexdigest()
            for kind, chosen in rows.items()
            if chosen.any()
        }

    def save(self) -> None:
        """Keep the states for the next command."""
        for key, table in self._unsaved.items():
            path = self._path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = temporary(path)
            with part.open("xb") as file:
                np.savez(file, allow_pickle=False, **table)
            os.replace(part, path)
        self._unsaved.clear()

    def _path(self, key: str) -> Path:
        assert self._kept is not None
        return self._kept / f"{key}.npz"

    def _read(self, key: str, records: Records) -> dict[str, np.ndarray]:
        """Kind -> a hash of the names and states of every record's images, [record, 16]."""
        names = records.image_names()
        root = str(self._root)  # paths as texts: there are many
        paths = [os.path.join(root, name) for name in names]
        kinds = {"images": self._states(key, names, paths)}
        if self._whole:
            kinds["image_bytes"] = _hashed(paths, _digest)
        numbers = {name: number for number, name in enumerate(names)}
        return {kind: _by_record(records, numbers, states) for kind, states in kinds.items()}

    def _states(self, key: str, names: Sequence[str], paths: Sequence[str]) -> np.ndarray:
        """States of distinct images, [image, 16]; computed for those that have changed."""
        now = _sizes_and_times(paths)
        digest = hashlib.sha256("\0".join(names).encode()).digest()
        listed = np.frombuffer(digest, np.uint8)
        table = {"names": listed, "stat": now}
        before = self._before(key, table)
        fresh = np.ones(len(names), bool)
        states = np.zeros((len(names), _WIDTH), np.uint8)
        if before is not None:
            fresh = (before["stat"] != now).any(axis=1)
            states = before["states"].copy()
        changed = np.flatnonzero(fresh).tolist()
        states[fresh] = _hashed([paths[i] for i in changed], _edges)
        if self._kept is not None and fresh.any():
            self._unsaved[key] = {**table, "states": states}
        return states

    def _before(self, key: str, table: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """What an earlier command kept for the same names; a damaged file does not count."""
        if self._kept is None or not self._path(key).exists():
            return None
        try:
            before = read_states(self._path(key))
        except RunError:
            return None
        return before if np.array_equal(before["names"], table["names"]) else None


def read_states(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of states, by name.

    Raises:
        RunError: it is damaged or cannot be read.
    """
    try:
        with path.open("rb") as raw:
            with zipfile.ZipFile(raw) as whole:  # np.load reads a part of a member whose shape is
                damaged = whole.testzip()  # damaged, and compares no checksum then
            if damaged is not None:
                raise ValueError(f"the checksum of {damaged} differs")
            raw.seek(0)
            with np.load(raw, allow_pickle=False) as file:
                return {name: file[name] for name in _ARRAYS}
    except Exception as error:  # zipfile and NumPy raise errors of many kinds on broken data
        raise RunError(
            f"{path}: expected states of images as cotbal writes them; found a broken file"
            f" ({error}). Delete it; the next command writes it again",
            "broken-file",
        ) from None


def _by_record(records: Records, numbers: dict[str, int], states: np.ndarray) -> np.ndarray:
    rows = np.zeros((len(records), _WIDTH), np.uint8)
    known = [bytes(state) for state in states]
    for index, names in enumerate(records.images()):
        text = b""
        for name in names:
            text += os.path.basename(name).encode()
            text += known[numbers[name]]
        if names:
            rows[index] = np.frombuffer(_short(text), np.uint8)
    return rows


def _sizes_and_times(paths: Sequence[str]) -> np.ndarray:
    """Size in bytes and time of the last change in ns, [image, 2]; -1 for a missing image."""
    return np.array(_of_all(paths, _size_and_time), np.int64).reshape(-1, 2)


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _hashed(paths: Sequence[str], state: Callable[[str], bytes]) -> np.ndarray:
    """The states of these files, [file, 16]; zeros for one that cannot be read."""

    def read(path: str) -> bytes:
        try:
            return state(path)
        except OSError:
            return bytes(_WIDTH)

    return np.frombuffer(b"".join(_of_all(paths, read)), np.uint8).reshape(-1, _WIDTH)


def _of_all(paths: Sequence[str], function: Callable[[str], _T]) -> list[_T]:
    """The results of a function that waits for the disk, for many files at a time."""

    def chunk(start: int) -> list[_T]:
        return [function(path) for path in paths[start : start + _CHUNK]]

    starts = range(0, len(paths), _CHUNK)
    return [*chain.from_iterable(in_threads(chunk, starts, _THREADS))]


def _edges(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_EDGE)
        file.seek(max(0, size - _EDGE))
        return _short(b"%d " % size + head + file.read(_EDGE))


def _digest(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").digest()[:_WIDTH]


def _short(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_WIDTH).digest()
