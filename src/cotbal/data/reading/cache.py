"""Where converted records are kept, and the images from inside them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


def default_cache() -> Path:
    """The directory of converted records: `$COTBAL_CACHE`, or `cotbal` in the user's cache."""
    chosen = os.environ.get("COTBAL_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(home) / "cotbal"


@cache
def image_cache(directory: Path) -> Path:
    """Where images from inside records are, in a directory of converted records."""
    return (directory / "images").resolve()
