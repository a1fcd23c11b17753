"""The file that records come from, by its content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cotbal.errors import DataError


def source_digest(path: Path) -> str:
    """SHA-256 of the bytes of a file; empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def need_same_source(path: Path, digest: str) -> None:
    """Records of other bytes must not be kept under the digest of these.

    Raises:
        DataError: the file has another digest.
    """
    if source_digest(path) != digest:
        raise DataError(
            f"{path}: expected one content while it was read; found that it was changed meanwhile."
            " Rerun this command once nothing writes this file any more",
            "changed-inputs",
        )
