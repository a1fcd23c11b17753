"""Files of a shared cache that end with a digest, and are read by their owner alone."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import sys
from pathlib import Path

import pyarrow as pa

_SIZE = 32  # bytes of the digest
_CHUNK = 2**20
_DONTNEED = 4  # an advice of madvise


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
    """The content of a sealed file, memory-mapped. It takes no file descriptor, of which a process
    may have as few as 1,024.

    Attributes:
        buffer: without the digest.

    Raises:
        MemoryError: the system gives no more memory.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._mapped = pa.memory_map(str(path)).read_buffer()
        except OSError as error:  # pyarrow gives no number of the error
            if os.strerror(errno.ENOMEM) in str(error):
                raise MemoryError(str(error)) from None
            raise
        self.buffer = self._mapped.slice(0, max(0, self._mapped.size - _SIZE))

    def release(self) -> None:
        """Give back the memory of the pages that were read; they are read again when needed."""
        if sys.platform == "linux":
            start = ctypes.c_void_p(self._mapped.address)
            ctypes.CDLL(None).madvise(start, ctypes.c_size_t(self._mapped.size), _DONTNEED)


def _digest(path: Path, name: str, size: int) -> tuple[bytes, bytes]:
    """Digest of the name and the first bytes of a file, and its other bytes; in little memory."""
    digest = hashlib.sha256(f"{name}\n".encode())
    with path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(size, _CHUNK))):
            digest.update(chunk)
            size -= len(chunk)
        return digest.digest(), file.read()
