from __future__ import annotations

from pathlib import Path

import pytest

from helpers.tiny_vlm import build


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("vlm"))
