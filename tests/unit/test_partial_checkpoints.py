from __future__ import annotations

import os
from pathlib import Path

import pytest

from cotbal.training.partial_checkpoints import COMPLETE, is_whole, mark_complete


def test_files_are_on_the_disk_before_their_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a loss of power could leave a complete checkpoint of zeros."""
    checkpoint = tmp_path / "checkpoint-4"
    names = ("model.safetensors", "deep/optimizer.pt")
    for name in names:
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).write_bytes(b"1")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    mark_complete(checkpoint)
    files = {(checkpoint / name).stat().st_ino for name in names}
    mark = (checkpoint / COMPLETE).stat().st_ino
    assert set(synced[:-1]) == files
    assert synced[-1] == mark
    assert is_whole(checkpoint)
