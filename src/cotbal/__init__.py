"""cotbal: task weights with confidence intervals for fine-tuning vision-language models on many
tasks.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cotbal.weights_file import read_task_weights

__all__ = ["read_task_weights"]

_PUBLIC = {"read_task_weights": "cotbal.weights_file"}  # name -> module, imported when asked for

# On CPUs bitsandbytes asks for a package that would fetch code from the hub, and does without: one
# line that nobody needs to read. It is said when bitsandbytes is imported, which peft does by
# itself, so it is hidden first of all.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda line: "kernels-community" not in line.getMessage()
)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
