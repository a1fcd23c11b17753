"""Lets the tests of this directory import `pipeline_fakes`: pytest's importlib mode adds no
directory by itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """A small mixture on disk: three balanced tasks and one that is not."""
    from pipeline_fakes import write_mixture

    return write_mixture(tmp_path / "mixture")
