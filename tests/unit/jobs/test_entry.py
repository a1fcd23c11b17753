from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from cotbal.jobs import entry
from cotbal.training.ranks import Ranks


def test_progress_is_reported_after_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "PROGRESS_SECONDS", 0.0)
    progress = entry.Progress(tmp_path / "progress.json", Ranks())
    for done, hours in ((1, 0), (2, -6), (3, 6)):
        wrong = time.time() + 3600 * hours
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda wrong=wrong: wrong)
            progress.write("training", done, 9, 0.5)
        assert json.loads(progress.path.read_text())["done"] == done


def test_progress_is_not_written_at_every_step(tmp_path: Path) -> None:
    progress = entry.Progress(tmp_path / "progress.json", Ranks())
    progress.write("training", 1, 9, 0.1)
    progress.last = time.monotonic()
    progress.write("training", 2, 9, 0.2)
    assert json.loads(progress.path.read_text())["done"] == 1
    progress.write("training", 9, 9, 0.9)
    assert json.loads(progress.path.read_text())["done"] == 9
