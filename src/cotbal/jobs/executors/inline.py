"""Inside this process, one job after another: for debuggers, profilers and notebooks."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import time
import traceback
from collections.abc import Iterator, Sequence

from cotbal.jobs.executors import Job, Outcome, Resources, log_tail, thread_environment


def run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    """Run the jobs in the order given; `workers` has no meaning in one process."""
    for job in jobs:
        started = time.monotonic()
        message = ""
        try:
            with _environment(resources):
                _run_module(job)
        except Exception:
            with (job.directory / "log.txt").open("a", encoding="utf-8") as log:
                traceback.print_exc(file=log)
            message = f"{job.name} failed\n{log_tail(job.directory / 'log.txt')}"
        yield Outcome(job, not message, time.monotonic() - started, message)


@contextlib.contextmanager
def _environment(resources: Resources) -> Iterator[None]:
    """The job's variables, for as long as it runs."""
    before = dict(os.environ)
    os.environ.update({**thread_environment(resources.threads), **resources.environment})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


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
