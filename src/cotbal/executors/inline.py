"""Inside this process, one job after another: for debuggers, profilers and notebooks."""

from __future__ import annotations

import contextlib
import runpy
import sys
import time
import traceback
from collections.abc import Iterator, Sequence

from cotbal.executors import Job, Outcome, Resources, log_tail


def run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:  # noqa: ARG001 - the contract's signature
    """Run the jobs in the order given; in one process there are no resources to share out."""
    for job in jobs:
        started = time.monotonic()
        try:
            _run_module(job)
        except Exception:
            with (job.directory / "log.txt").open("a", encoding="utf-8") as log:
                traceback.print_exc(file=log)
            message = f"{job.name} failed\n{log_tail(job.directory / 'log.txt')}"
            yield Outcome(job, False, time.monotonic() - started, message)
        else:
            yield Outcome(job, True, time.monotonic() - started)


def _run_module(job: Job) -> None:
    """Do what `python -m module arguments` would do, without a new process."""
    _, flag, module, *arguments = job.command
    assert flag == "-m", "a job's command is `python -m module arguments`"
    job.directory.mkdir(parents=True, exist_ok=True)
    before = sys.argv
    with (job.directory / "log.txt").open("a", encoding="utf-8") as log:
        sys.argv = [module, *arguments]
        try:
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            if end.code not in (None, 0):
                raise RuntimeError(f"exit code {end.code}") from None
        finally:
            sys.argv = before
