from __future__ import annotations

import sys
from pathlib import Path

import pytest

for folder in (Path(__file__).parent, Path(__file__).parents[1] / "pipeline"):
    sys.path.insert(0, str(folder))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The recipe of a small mixture, with weights beside it."""
    from export_cases import write_recipe

    return write_recipe(tmp_path / "mixture")
