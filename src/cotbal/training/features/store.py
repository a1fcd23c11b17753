"""Features by their key: in memory, and in files that the runs of a machine or a cluster share.

A process writes what it computed into a new pair of files, first the tensors, then the index with
its digest, each under a temporary name that is renamed. So readers need no lock, and what a killed
process leaves is never read. Every entry has a digest of its own: what does not have it is computed
again. Files of other users are not read.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cotbal.data.files import is_own, now, read_json, write_sealed
from cotbal.errors import RunError
from cotbal.training.features.calls import content

INDEX = "*.json"
SAVE_SECONDS = 60.0  # between two shares of what is being computed
STALE = 24 * 3600.0  # seconds after which what a killed process left is removed


@dataclass(frozen=True)
class _Entry:
    """Where a tensor is in a file, and what it is."""

    file: Path
    start: int
    length: int
    dtype: str
    shape: tuple[int, ...]
    digest: str

    def read(self) -> Tensor | None:
        """The tensor; None if the file is gone or damaged."""
        try:
            with self.file.open("rb", buffering=0) as file:
                raw = bytearray(os.pread(file.fileno(), self.length, self.start))
        except OSError:
            return None
        if hashlib.sha256(raw).hexdigest() != self.digest:
            return None
        flat = torch.frombuffer(raw, dtype=torch.uint8).view(getattr(torch, self.dtype))
        return flat.reshape(self.shape)


class Store:
    """Tensors by key.

    Args:
        budget: bytes in memory; and of the files in `folder` together.
        folder: of the files; None keeps tensors in memory alone.
    """

    def __init__(self, budget: int, folder: Path | None) -> None:
        self.budget = budget
        self.folder = folder
        self.bytes = 0
        self._kept: dict[str, list[Tensor]] = {}
        self._unsaved: list[str] = []
        self._entries: dict[str, list[_Entry]] = {}
        self._seen: set[Path] = set()
        self._due = now() + SAVE_SECONDS
        self._look()

    def get(self, key: str) -> list[Tensor] | None:
        """What is kept under a key; None if nothing is."""
        if key in self._kept:
            return self._kept[key]
        tensors = [entry.read() for entry in self._entries.get(key, ())]
        whole = [tensor for tensor in tensors if tensor is not None]
        if not whole or len(whole) < len(tensors):
            return None
        self._keep(key, whole)
        return whole

    def put(self, key: str, tensors: Sequence[Tensor]) -> None:
        """Keep tensors, which nobody changes afterwards, while there is memory."""
        if self._keep(key, tensors) and self.folder is not None and key not in self._entries:
            self._unsaved.append(key)
            self._share()

    def _share(self) -> None:
        """Save once a minute: a kill loses a minute of work, and runs beside this one get the
        rest.
        """
        if now() < self._due:
            return
        self._due = now() + SAVE_SECONDS
        try:
            self.save()
        except OSError:  # the last call of `save` raises it again
            self._due = float("inf")

    def save(self) -> None:
        """Write what no file has yet, while the files are within the budget."""
        if self.folder is None or not self._unsaved:
            return
        self._look()  # others may have written the same meanwhile
        keys = [key for key in self._unsaved if key not in self._entries]
        size = sum(path.stat().st_size for path in self._seen if path.exists())
        size += sum(_bytes(self._kept[key]) for key in keys)
        if keys and size <= self.budget:
            self._write(self.folder, keys)
        self._unsaved.clear()

    def _keep(self, key: str, tensors: Sequence[Tensor]) -> bool:
        size = _bytes(tensors)
        if key in self._kept or self.bytes + size > self.budget:
            return False
        self._kept[key] = list(tensors)
        self.bytes += size
        return True

    def _write(self, folder: Path, keys: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        name = uuid.uuid4().hex
        temporary, path = folder / f".{name}", folder / f"{name}.bin"
        index: dict[str, Any] = {}
        try:
            with temporary.open("xb") as file:
                temporary.chmod(0o600)  # features show what is in an image
                for key in keys:
                    index[key] = [_written(file, tensor) for tensor in self._kept[key]]
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        write_sealed(path.with_suffix(".json"), {"entries": index})

    def _look(self) -> None:
        """Read the indices of files that have been written since."""
        for index in [] if self.folder is None else sorted(self.folder.glob(INDEX)):
            data = index.with_suffix(".bin")
            if data in self._seen:
                continue
            self._seen.add(data)
            try:
                if not (is_own(index) and is_own(data)):
                    continue
                entries = read_json(index)["entries"]
            except (OSError, RunError):
                continue  # damaged, or removed meanwhile
            for key, tensors in entries.items():
                self._entries.setdefault(key, [_entry(data, tensor) for tensor in tensors])


def _remove_stale(folder: Path) -> None:
    """Remove what processes left that were killed while they wrote."""
    for path in (*folder.glob(".*"), *folder.glob("*.bin")):
        unfinished = not path.with_suffix(".json").exists()
        if unfinished and now() - path.stat().st_mtime > STALE:
            path.unlink(missing_ok=True)


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _written(file: Any, tensor: Tensor) -> dict[str, Any]:
    start, raw = file.tell(), content(tensor)
    file.write(raw)
    return {
        "start": start,
        "length": len(raw),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "digest": hashlib.sha256(raw).hexdigest(),
    }


def _entry(file: Path, fields: dict[str, Any]) -> _Entry:
    return _Entry(file, **{**fields, "shape": tuple(fields["shape"])})
