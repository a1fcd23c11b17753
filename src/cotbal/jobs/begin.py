"""`python -m cotbal.jobs.begin MODULE ARGUMENT...`: run a module as `python -m` does, and end with
the driver, also while the module is imported.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from types import TracebackType

from cotbal.training.parent import Watch

BEGIN = "cotbal.jobs.begin"


def begin(module: str, arguments: Sequence[str]) -> None:
    """Run a module as `__main__`."""
    Watch()
    sys.modules.pop(module, None)  # in a forked process; `__main__` is another module
    sys.argv = [module, *arguments]
    sys.excepthook = _print_error
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _print_error(
    kind: type[BaseException], error: BaseException, frames: TracebackType | None
) -> None:
    """Print a traceback that begins with the module, so that the end of a log shows more."""
    found = frames
    while found is not None and found.tb_frame.f_code.co_filename != runpy.__file__:
        found = found.tb_next
    while found is not None and found.tb_frame.f_code.co_filename == runpy.__file__:
        found = found.tb_next
    sys.__excepthook__(kind, error.with_traceback(found or frames), found or frames)


if __name__ == "__main__":
    begin(sys.argv[1], sys.argv[2:])
