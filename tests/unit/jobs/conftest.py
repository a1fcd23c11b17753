from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """A small mixture on disk: three balanced tasks and one that is not."""
    from helpers.pipeline_fakes import write_mixture

    return write_mixture(tmp_path / "mixture")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Names of the runs that were done, in order."""
    monkeypatch.setenv("COTBAL_FAKE_LOG", str(tmp_path / "log.jsonl"))
    return tmp_path / "log.jsonl"
