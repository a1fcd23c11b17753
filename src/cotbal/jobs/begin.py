"""`python -m cotbal.jobs.begin MODULE ARGUMENT...`: run a module as `python -m` does, and end with
the driver, also while the module is imported.
"""

from __future__ import annotations

import runpy
import sys
import threading
from collections.abc import Sequence
from types import TracebackType

from cotbal.training.parent import Watch

BEGIN = "cotbal.jobs.begin"


def begin(module: str, arguments: Sequence[str]) -> None:
    """Run a module as `__main__`."""
    Watch()
    _free_progress_bars()
    sys.modules.pop(module, None)  # in a forked process; `__main__` is another module
    sys.argv = [module, *arguments]
    sys.excepthook = _print_error
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _free_progress_bars() -> None:
    """Give progress bars a lock of this process. All processes that are forked from one share that
    of tqdm, and a run that is killed while it holds it would stop the others for ever.
    """
    bars = sys.modules.get("tqdm.std")
    if bars is not None:
        bars.tqdm.set_lock(threading.RLock())


def _print_error(
    kind: type[BaseException], error: BaseException, frames: TracebackType | None
) -> None:
    """Print a traceback that begins with the module, so that the end of a log shows more."""
    frame = frames
    while frame is not None and frame.tb_frame.f_code is not begin.__code__:
        frame = frame.tb_next
    while frame is not None and _is_launching(frame):
        frame = frame.tb_next
    shown = frame or frames
    sys.__excepthook__(kind, error.with_traceback(shown), shown)


def _is_launching(frame: TracebackType) -> bool:
    code = frame.tb_frame.f_code
    return code is begin.__code__ or frame.tb_frame.f_globals.get("__name__") == runpy.__name__


if __name__ == "__main__":
    begin(sys.argv[1], sys.argv[2:])
