from __future__ import annotations

from pathlib import Path

import pytest

from helpers.fake_lmms import interpreter, write_checkpoint


@pytest.fixture
def python(tmp_path: Path) -> str:
    return interpreter(tmp_path)


@pytest.fixture
def checkpoints(tmp_path: Path) -> tuple[Path, Path]:
    return write_checkpoint(tmp_path / "EW"), write_checkpoint(tmp_path / "CoTBal")
