"""What the files of a checkpoint are, by content, or faster by size and time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cotbal.data.files import read_json
from cotbal.errors import RunError
from cotbal.training.run_paths import RunPaths


def checkpoint_digest(checkpoint: str) -> str:
    """Hash of all files of a checkpoint directory; a hub name stands for itself."""
    directory = Path(checkpoint)
    if not directory.is_dir():
        return checkpoint
    digest = hashlib.sha256()
    for name, path in _files(directory):
        digest.update(f"{name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def checkpoint_state(directory: Path) -> dict[str, Any]:
    """Digest of a checkpoint that was written, and the sizes of its files."""
    sizes = {name: path.stat().st_size for name, path in _files(directory)}
    return {"digest": checkpoint_digest(str(directory)), "sizes": sizes}


def lost_files(directory: Path, state: Mapping[str, Any]) -> list[str]:
    """A line for every file of a checkpoint that has not the size that it was written with."""
    now = {name: path.stat().st_size for name, path in _files(directory)}
    return [
        f"{directory.name}/{name}: was {size:,} bytes, is {now.get(name, 'missing')}"
        for name, size in state["sizes"].items()
        if now.get(name) != size
    ]


def need_whole_checkpoint(paths: RunPaths) -> str:
    """The digest of the model of a run, which is that of its training.

    Raises:
        RunError: the model has changed since.
    """
    digest = checkpoint_digest(str(paths.checkpoint))
    written = read_json(paths.outcome).get("checkpoint") if paths.done else None
    if written and written["digest"] != digest:
        listed = "; ".join(lost_files(paths.checkpoint, written)) or "the content of a file"
        raise RunError(
            f"{paths.checkpoint}: expected the model that was trained; found changes: {listed}."
            f" Bring it back, or remove {paths.root} and train it again",
            "damaged-file",
        )
    return digest


def is_model_removed(paths: RunPaths) -> bool:
    """Whether a finished run has no model any more, though it kept one."""
    if not paths.done or paths.checkpoint.exists():
        return False
    return bool(read_json(paths.outcome).get("checkpoint"))


def checkpoint_stat(checkpoint: str) -> str | None:
    """Hash of the names, sizes and times of the files of a checkpoint directory, which is much
    faster than that of their content; None for a hub name.
    """
    directory = Path(checkpoint)
    if not directory.is_dir():
        return None
    digest = hashlib.sha256()
    for name, path in _files(directory):
        status = path.stat()
        digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    """The files of a checkpoint with their names inside it."""
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        yield path.relative_to(directory).as_posix(), path
