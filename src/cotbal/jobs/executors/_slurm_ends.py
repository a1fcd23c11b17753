"""How a job of Slurm has ended: by the note of its script, by the queue, and in words."""

from __future__ import annotations

from pathlib import Path

from cotbal.jobs.executors import STOPPED
from cotbal.jobs.executors._slurm_queue import Entry
from cotbal.jobs.executors._slurm_script import END, LOG, SETUP

OWN_PROBLEMS = {
    "OUT_OF_MEMORY": "ran out of memory (resources.memory)",
    "DEADLINE": "did not start before its deadline",
}
End = tuple[str, int]


def end_of(directory: Path, job: str) -> End | None:
    """Stage and exit code of the script of this job, if it came to its end."""
    try:
        id, stage, code = (directory / END).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    return (stage, int(code)) if id == job else None


def problem_of(entry: Entry | None, end: End | None) -> tuple[str, str] | None:
    """Why a job is not to be sent again whatever the run has reached, and the log that says
    more."""
    if end is not None and end[0] == SETUP:
        return f"failed in resources.setup with exit code {end[1]}", LOG
    if entry is not None and entry.state in OWN_PROBLEMS:
        return OWN_PROBLEMS[entry.state], "log.txt"
    return None


def how(job: str, entry: Entry | None, code: int | None) -> str:
    """What has become of a job, by its id; None for the code of one whose script left no note."""
    if entry is not None and entry.given_up:
        return f"could not be started by Slurm ({entry.reason}), job {job}"
    word = "" if entry is None else f" ({entry.state})"
    if code == STOPPED:
        return f"was asked to stop{word}, job {job}, and has saved"
    if code is None or code > 128:
        return f"was stopped from outside{word}, job {job}"
    return f"ended with exit code {code}{word}, job {job}"
