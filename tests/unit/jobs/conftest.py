from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """A small mixture on disk: three balanced tasks and one that is not."""
    from helpers.pipeline_fakes import write_mixture

    return write_mixture(tmp_path / "mixture")
