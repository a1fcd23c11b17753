"""`cotbal cancel`."""

from __future__ import annotations

from cotbal.cli.options import RunDirectory


def cancel(run_directory: RunDirectory) -> None:
    """Stop all work on a run directory: the commands that work there, and its jobs in any queue.

    Finished runs and checkpoints are kept; rerun the command to resume.
    """
    from cotbal.jobs import queue
    from cotbal.jobs.rundir import RunDir

    stopped, remarks = queue.cancel(RunDir(run_directory))
    if stopped:
        print(f"cancelled in the queue: {', '.join(stopped)}")
    else:
        print("no job of it is in a queue")
    for remark in remarks:
        print(remark)
