from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def quick(forked_measuring: None) -> None: ...


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The recipe of a small mixture, with weights beside it."""
    from helpers.export_cases import write_recipe

    return write_recipe(tmp_path / "mixture")
