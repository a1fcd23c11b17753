"""How a process of an executor begins, reports its progress and ends: one job file, one or several
ranks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

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
    stop_signal,
)
from cotbal.training.run_paths import RunPaths
from cotbal.training.trainers.sharding import validate_environment

PROGRESS_SECONDS = 0.3
# An orphan ends within a second or two, but one that was asked to stop may still be saving.
LOCK_SECONDS = 300.0


@contextmanager
def job_begun(paths: RunPaths) -> Iterator[tuple[Ranks, Callable[[], bool]]]:
    """The ranks of a job, and whether it should stop; the first rank holds the lock of its
    directory meanwhile.

    An error is written to `failure.json`. After `Stopped` the process exits with the code STOPPED.

    Raises:
        CotbalError: the launcher shards models in a way that is not supported.
    """
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
            message = f"{type(error).__name__}: {sentence(error)}"
            write_json(paths.failure, {"message": message, "time": now()})
        raise


class Progress:
    """Writes the progress file of a job, a few times per second at most; the first rank does.

    Nothing waits for the disk: a file that a loss of power cuts off counts as no progress.
    """

    def __init__(self, path: Path, ranks: Ranks) -> None:
        self.path = path
        self.ranks = ranks
        self.last = -PROGRESS_SECONDS

    def write(
        self,
        phase: str,
        done: int,
        total: int,
        fraction: float,
        detail: str = "",
        loss: float | None = None,
    ) -> None:
        """Report `done` of `total` steps of a phase, whose last step is always written.

        Args:
            fraction: of the whole job.
        """
        moment = time.monotonic()  # of a clock that nobody sets
        if not self.ranks.main or (moment - self.last < PROGRESS_SECONDS and done < total):
            return
        self.last = moment
        content = {
            "phase": phase,
            "done": done,
            "total": total,
            "fraction": round(fraction, 4),
            "detail": detail,
            "loss": loss,
            "time": now(),
        }
        write_json(self.path, content, durable=False)
