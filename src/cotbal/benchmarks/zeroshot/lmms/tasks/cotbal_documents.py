"""Functions that the task files beside this one name; lmms-eval imports them in its own
environment.
"""

from __future__ import annotations

from typing import Any


def images_only(documents: Any) -> Any:
    """The rows of SEED-Bench whose question is on one image; reads one column, so that nothing is
    decoded.
    """
    kinds = documents["data_type"]
    return documents.select([i for i, kind in enumerate(kinds) if kind == "image"])
