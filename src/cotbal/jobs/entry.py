"""How a process of an executor begins and ends: one job file, one or several ranks, one place to
tell of an error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from transformers.utils import logging as transformers_logging

from cotbal.data.batches.loading import sentence
from cotbal.data.files import locked, now, write_json
from cotbal.jobs.executors import STOPPED
from cotbal.training.ranks import (
    Ranks,
    Stopped,
    is_of_another,
    join,
    leave_with_parent,
    stop_signal,
)
from cotbal.training.run_paths import RunPaths
from cotbal.training.trainers.sharding import validate_environment

# an orphan leaves within a second or two, but one that was asked to stop may still be saving
LOCK_SECONDS = 300.0


@contextmanager
def job_begun(paths: RunPaths) -> Iterator[tuple[Ranks, Callable[[], bool]]]:
    """The ranks of a job, and whether it should stop; the first rank holds the lock of its
    directory meanwhile.

    An error is written where the driver looks for it. Ends the process with the code STOPPED after
    `Stopped`.

    Raises:
        CotbalError: the launcher shares models out in a way that is not supported.
    """
    leave_with_parent()
    stop = stop_signal()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    try:
        ranks = join()
        validate_environment()
        with locked(paths.lock, LOCK_SECONDS) if ranks.main else nullcontext():
            yield ranks, stop
            ranks.wait()
    except Stopped:
        sys.exit(STOPPED)
    except Exception as error:
        if not is_of_another(error):
            write_json(
                paths.failure,
                {"message": f"{type(error).__name__}: {sentence(error)}", "time": now()},
            )
        raise
