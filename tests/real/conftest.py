"""Public data with golden values, in the folder that COTBAL_REAL_DATA names, one folder per source.

The data are not part of the repository. Every golden value was computed with the reference program
that its test names.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.needs import real_data


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder that COTBAL_REAL_DATA names."""
    return real_data()
