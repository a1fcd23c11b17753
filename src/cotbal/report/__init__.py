"""The report of a run directory: one self-contained HTML page, and its tables as Markdown.

The functions below are imported when they are first used, so that a command that prints a table of
the report does not import the page.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cotbal.report.writing import (
        prediction_tables,
        write_all,
        write_comparison,
        write_curve,
        write_report,
    )

__all__ = ["prediction_tables", "write_all", "write_comparison", "write_curve", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("cotbal.report.writing"), name)
