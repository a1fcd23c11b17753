"""Features in memory and in files: what is kept, what is shared, and what damage does."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from cotbal.data.files import now
from cotbal.training.features import store as features_store
from cotbal.training.features.store import STALE, Store

LARGE = 2**20
VALUES = {
    "a": [torch.arange(6.0).reshape(2, 3), torch.ones(4, dtype=torch.bfloat16)],
    "b": [torch.tensor([[1, 2]])],
}


def filled(folder: Path | None, budget: int = LARGE) -> Store:
    store = Store(budget, folder)
    for key, tensors in VALUES.items():
        store.put(key, tensors)
    store.save()
    return store


def same(store: Store, key: str) -> bool:
    tensors = store.get(key)
    if tensors is None:
        return False
    pairs = zip(tensors, VALUES[key], strict=True)
    return all(one.dtype == other.dtype and torch.equal(one, other) for one, other in pairs)


def test_another_process_gets_the_same_tensors(tmp_path: Path) -> None:
    filled(tmp_path)
    other = Store(LARGE, tmp_path)
    assert same(other, "a")
    assert same(other, "b")
    assert other.get("c") is None


def test_nothing_is_written_without_a_folder(tmp_path: Path) -> None:
    assert same(filled(None), "a")
    assert not [*tmp_path.iterdir()]


def test_what_another_process_has_written_is_not_written_twice(tmp_path: Path) -> None:
    late = Store(LARGE, tmp_path)
    filled(tmp_path)
    late.put("a", VALUES["a"])
    late.save()
    assert len([*tmp_path.glob("*.json")]) == 1
    late.put("c", VALUES["a"])
    late.save()
    assert len([*tmp_path.glob("*.json")]) == 2


def test_runs_share_what_they_compute_before_they_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_store, "SAVE_SECONDS", 0.0)
    first, second = Store(LARGE, tmp_path), Store(LARGE, tmp_path)
    first.put("a", VALUES["a"])
    assert same(Store(LARGE, tmp_path), "a")
    second.put("b", VALUES["b"])
    assert same(second, "a")
    first.save()
    assert len([*tmp_path.glob("*.json")]) == 2


def test_a_full_disk_is_reported_by_the_last_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features_store, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(os, "replace", full)
    store = Store(LARGE, tmp_path)
    for key, tensors in VALUES.items():
        store.put(key, tensors)
        assert same(store, key)
    with pytest.raises(OSError, match="No space"):
        store.save()


def test_memory_and_files_stay_within_the_budget(tmp_path: Path) -> None:
    first = sum(tensor.nbytes for tensor in VALUES["a"])
    store = filled(tmp_path, budget=first)
    assert same(store, "a")
    assert store.get("b") is None
    assert store.bytes == first
    full = Store(first, tmp_path)
    full.put("b", VALUES["b"])
    full.save()
    assert len([*tmp_path.glob("*.json")]) == 1


def test_a_writer_that_was_killed_leaves_nothing_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for function in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, killed)
            with pytest.raises(KeyboardInterrupt):
                filled(tmp_path)
        assert Store(LARGE, tmp_path).get("a") is None
    filled(tmp_path)
    assert same(Store(LARGE, tmp_path), "a")


def cut(data: Path, index: Path) -> None:
    data.write_bytes(data.read_bytes()[:10])


def turned(data: Path, index: Path) -> None:
    content = bytearray(data.read_bytes())
    content[3] ^= 1
    data.write_bytes(content)


def removed(data: Path, index: Path) -> None:
    data.unlink()


def edited(data: Path, index: Path) -> None:
    content = json.loads(index.read_text())
    content["entries"]["a"] = content["entries"]["b"]
    index.write_text(json.dumps(content))


def broken(data: Path, index: Path) -> None:
    index.write_text(index.read_text()[:-20])


@pytest.mark.parametrize("damage", [cut, turned, removed, edited, broken])
def test_what_is_damaged_counts_as_absent(tmp_path: Path, damage) -> None:
    filled(tmp_path)
    (data,), (index,) = tmp_path.glob("*.bin"), tmp_path.glob("*.json")
    damage(data, index)
    store = Store(LARGE, tmp_path)
    assert store.get("a") is None
    store.put("a", VALUES["a"])
    assert same(store, "a")


def test_what_a_killed_writer_left_is_removed_a_day_later(tmp_path: Path) -> None:
    filled(tmp_path)
    left = [tmp_path / ".half", tmp_path / "without-index.bin"]
    for path in left:
        path.touch()
    late = Store(LARGE, tmp_path)
    for key, seconds in (("c", STALE - 60), ("d", STALE + 60)):
        for path in left:
            if path.exists():
                os.utime(path, (now() - seconds,) * 2)
        late.put(key, VALUES["a"])
        late.save()
        assert [path.exists() for path in left] == [key == "c"] * 2
    assert same(Store(LARGE, tmp_path), "a")


def test_files_of_others_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("*.bin"))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert Store(LARGE, tmp_path).get("a") is None
