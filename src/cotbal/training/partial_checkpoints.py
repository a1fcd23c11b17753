"""Partial checkpoints as directories: complete or not, and as they were written or not."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from cotbal.data.files import archive, read_json, write_sealed
from cotbal.data.threads import in_threads
from cotbal.errors import RunError

COMPLETE = "complete"  # marks a partial checkpoint that was written to its end


def mark_complete(checkpoint: Path, identity: str | None = None) -> None:
    """Mark a partial checkpoint that all ranks have written to its end, once it is on the disk.

    Args:
        identity: names what the training was planned from; see `last_complete`.
    """
    content = {
        "step": step_of(checkpoint),
        "identity": identity,
        "files": _digests(checkpoint),
    }
    write_sealed(checkpoint / COMPLETE, content)


def last_complete(directory: Path, identity: str | None = None) -> Path | None:
    """The newest partial checkpoint of this training that is as it was written. Those cut off are
    removed; damaged ones and those of another training are archived.

    Args:
        identity: as in `mark_complete`. A worker that outlives its run saves into the directory of
            the next one, whose training must not resume from that.
    """
    for checkpoint in sorted(directory.glob("checkpoint-*"), key=step_of, reverse=True):
        if not (checkpoint / COMPLETE).exists():
            shutil.rmtree(checkpoint)
            continue
        if (problem := _problem(checkpoint, identity)) is None:
            return checkpoint
        archived = archive_damaged(checkpoint)
        print(f"{checkpoint}: {problem}; archived as {archived.name}")
    return None


def _problem(checkpoint: Path, identity: str | None) -> str | None:
    if not is_whole(checkpoint):
        return "not as it was written"
    written = read_json(checkpoint / COMPLETE)["identity"]
    return None if written == identity else "of another training"


def archive_damaged(checkpoint: Path) -> Path:
    """Rename a checkpoint that cannot be used, so that no training resumes from it."""
    return archive(checkpoint.rename(checkpoint.with_name(f"damaged-{checkpoint.name}")))


def is_whole(checkpoint: Path) -> bool:
    """Whether a complete checkpoint is as it was written."""
    try:
        return bool(read_json(checkpoint / COMPLETE)["files"] == _digests(checkpoint))
    except RunError:
        return False


def _digests(checkpoint: Path) -> dict[str, str]:
    """Name -> SHA-256 of every file but the mark; several are read at a time."""
    names = sorted(
        path.relative_to(checkpoint).as_posix()
        for path in checkpoint.rglob("*")
        if path.is_file() and path.name != COMPLETE
    )
    digests = in_threads(lambda name: _digest(checkpoint / name), names, os.cpu_count())
    return dict(zip(names, digests, strict=True))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def step_of(checkpoint: Path) -> int:
    """The optimizer step after which a partial checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])
