"""Fixtures of the zero-shot tests; the stand-in for the environment of lmms-eval is in
`fake_lmms`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_lmms import interpreter, write_checkpoint


@pytest.fixture
def python(tmp_path: Path) -> str:
    return interpreter(tmp_path)


@pytest.fixture
def checkpoints(tmp_path: Path) -> tuple[Path, Path]:
    return write_checkpoint(tmp_path / "EW"), write_checkpoint(tmp_path / "CoTBal")
