"""Reader of Qt resource bundles (.rcc), the form in which gcompris keeps its images."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cotbal.errors import CotbalError

COMPRESSED, DIRECTORY, ZSTANDARD = 1, 2, 4


def read_rcc(path: Path) -> dict[str, bytes]:
    """All files of a bundle, by their path inside it; CotbalError if it is no bundle this reader
    knows.
    """
    data = path.read_bytes()
    if data[:4] != b"qres":
        raise CotbalError(
            f"{path}: expected a Qt resource bundle; found another format", "broken-file"
        )
    version, tree, contents, names = struct.unpack(">4i", data[4:20])
    entry = 22 if version >= 2 else 14
    return dict(Layout(data, tree, contents, names, entry).walk(0, ""))


@dataclass(frozen=True)
class Layout:
    """The three tables of a bundle: a tree of fixed-size entries, names and contents (offsets in
    bytes).
    """

    data: bytes
    tree: int
    contents: int
    names: int
    entry: int

    def walk(self, index: int, folder: str) -> Iterator[tuple[str, bytes]]:
        """Yield (path, bytes) of every file under the entry `index`."""
        start = self.tree + index * self.entry
        name, flags = struct.unpack_from(">iH", self.data, start)
        path = f"{folder}/{self.name(name)}" if index else ""
        if flags & DIRECTORY:
            count, first = struct.unpack_from(">ii", self.data, start + 6)
            for child in range(first, first + count):
                yield from self.walk(child, path)
        elif not flags & ZSTANDARD:
            (offset,) = struct.unpack_from(">i", self.data, start + 10)
            yield path, self.content(offset, bool(flags & COMPRESSED))

    def name(self, offset: int) -> str:
        """A name: length in UTF-16 units, a hash that we do not need, the characters."""
        start = self.names + offset
        (length,) = struct.unpack_from(">H", self.data, start)
        first = start + 6
        return self.data[first : first + 2 * length].decode("utf-16-be")

    def content(self, offset: int, compressed: bool) -> bytes:
        """The bytes of a file; a compressed one starts with its unpacked length."""
        start = self.contents + offset
        (length,) = struct.unpack_from(">i", self.data, start)
        first = start + 4
        raw = self.data[first : first + length]
        return zlib.decompress(raw[4:]) if compressed else raw
