"""Files of a shared cache that end with a digest, and are read by their owner alone."""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path

import pyarrow as pa

_SIZE = 32  # bytes of the digest
_CHUNK = 2**20


def seal(path: Path, name: str) -> None:
    """Add a digest to a file that will have this name, and leave it to its owner."""
    digest, _ = _digest(path, name, path.stat().st_size)
    path.chmod(0o600)
    with path.open("ab") as sink:
        sink.write(digest)


def is_sealed(path: Path) -> bool:
    """Whether the file is as it was sealed, under that name."""
    digest, end = _digest(path, path.name, path.stat().st_size - _SIZE)
    return digest == end


class Content:
    """The content of a sealed file, memory-mapped.

    Attributes:
        buffer: without the digest.

    Raises:
        OSError: the system gives no more memory.
        ValueError: the file is empty.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.buffer = pa.py_buffer(self._mapped).slice(0, max(0, len(self._mapped) - _SIZE))

    def release(self) -> None:
        """Give back the memory of the pages that were read; they are read again when needed."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._mapped.madvise(mmap.MADV_DONTNEED)


def _digest(path: Path, name: str, size: int) -> tuple[bytes, bytes]:
    """Digest of the name and the first bytes of a file, and its other bytes; in little memory."""
    digest = hashlib.sha256(f"{name}\n".encode())
    with path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(size, _CHUNK))):
            digest.update(chunk)
            size -= len(chunk)
        return digest.digest(), file.read()
