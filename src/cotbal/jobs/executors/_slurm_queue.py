"""Slurm's commands sbatch, squeue and scancel.

All functions that run one raise `NoAnswer` while the controller does not answer, and CotbalError if
the program is not on this machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cotbal.errors import CotbalError

SECONDS = 60  # for a command
FORMAT = "%i|%T|%N|%r|%j"  # a name may hold anything, so it comes last
# By sbatch(1), squeue(1), "JOB STATE CODES"; in every other state Slurm may still run the job.
ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
)
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")
# Why a job waits that Slurm could not start (its node died meanwhile, its prolog failed): until
# somebody releases it.
HELD = "launch failed requeued held"
# Parts of messages of a controller that does not answer; other errors of sbatch are final.
NO_ANSWER = re.compile(
    "contact slurm controller|timed out|refused|zero bytes|standby|temporarily|connection failure"
    "|resolve|no route|reset by peer|transport endpoint"
)
# Parts of the messages of old and new versions to a user who has submitted as many jobs as allowed.
LIMIT = re.compile("submitjob|job submit limit")
# Variables that say which Slurm. Others with these prefixes describe the job that we may be in, or
# the user's favourite view of the queue; they would change what the commands do.
KEPT = ("SLURM_CLUSTERS", "SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
DROPPED = ("SLURM_", "SQUEUE_", "SCANCEL_", "SBATCH_ARRAY_INX", "SBATCH_WAIT")


class SubmitLimit(CotbalError):
    """The user has submitted as many jobs as allowed."""

    default_code = "too-many-jobs"


class NoAnswer(CotbalError):
    """The controller does not answer; it may later."""

    default_code = "no-answer"


@dataclass(frozen=True)
class Entry:
    """One line of the queue: a job, its state as Slurm names it, and why it waits."""

    id: str
    state: str
    nodes: str
    reason: str
    name: str

    @property
    def alive(self) -> bool:
        """Whether it waits or runs, or will be restarted by Slurm itself."""
        return self.state not in ENDED

    @property
    def held(self) -> bool:
        """Whether Slurm failed to start it and holds it back; a user's own hold has another
        reason.
        """
        return self.alive and self.reason.strip("()").replace("_", " ").lower() == HELD


def need_programs() -> None:
    """Raise CotbalError unless the programs of Slurm are on this machine."""
    for program in ("sbatch", "squeue", "scancel"):
        if shutil.which(program) is None:
            raise _missing(program)


def _missing(program: str) -> CotbalError:
    message = f"expected Slurm's program {program} on this machine; found none on the PATH"
    return CotbalError(message, "missing-program")


def parse(listing: str) -> list[Entry]:
    """The lines of squeue in our format."""
    entries = []
    for line in listing.splitlines():
        if line.count("|") >= 4:
            entries.append(Entry(*line.split("|", 4)))
    return entries


def own_entries() -> list[Entry]:
    """All jobs of this user in the queue, with those that ended in the last minutes."""
    return _listed("--me")


def entries_of(ids: Sequence[str]) -> list[Entry]:
    """The entries of these jobs, whoever submitted them, without those that are forgotten."""
    entries: list[Entry] = []
    for id in ids:  # squeue may reject a list because of one unknown id
        with contextlib.suppress(_UnknownJob):
            entries += _listed(f"--jobs={id}")
    return entries


class _UnknownJob(NoAnswer):
    """There is no such job."""


def _listed(which: str) -> list[Entry]:
    done = _run(["squeue", which, "--noheader", "--states=all", f"--format={FORMAT}"])
    if done.returncode == 0:
        return parse(done.stdout)
    unknown = "invalid job id" in done.stderr.lower()
    raise (_UnknownJob if unknown else NoAnswer)(f"squeue: {_last_line(done.stderr)}")


def submit(options: Sequence[str], script: Path) -> str:
    """Submit a batch script; the id of the job.

    Raises:
        NoAnswer: the job may be in the queue all the same, if the answer was lost.
        SubmitLimit: the user has submitted as many jobs as allowed.
        CotbalError: Slurm rejected the job.
    """
    done = _run(["sbatch", "--parsable", *options, str(script)])
    # A site's wrapper of sbatch may print more than the id, and the name of the cluster may follow.
    ids = re.findall(r"^(\d+)(?:;\S*)?$", done.stdout, re.MULTILINE)
    if done.returncode == 0 and ids:
        return str(ids[-1])
    if done.returncode == 0:
        raise NoAnswer(f"sbatch: expected the id of a job, found {_last_line(done.stdout)}")
    problem = f"sbatch: {_last_line(done.stderr)}"
    _raise_no_answer(done, problem)
    if LIMIT.search(done.stderr.lower()):
        raise SubmitLimit(problem)
    raise CotbalError(problem, "rejected-job")


def stop(ids: Sequence[str]) -> None:
    """Cancel jobs; those that are over already are no error, another user's job is."""
    done = _run(["scancel", *ids])
    problem = f"scancel: {_last_line(done.stderr)}"
    _raise_no_answer(done, problem)
    if "permission denied" in done.stderr.lower():
        raise CotbalError(problem, "permission-denied")


def _raise_no_answer(done: subprocess.CompletedProcess[str], problem: str) -> None:
    if done.returncode != 0 and NO_ANSWER.search(done.stderr.lower()):
        raise NoAnswer(problem)


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=SECONDS,
            env={k: v for k, v in os.environ.items() if k in KEPT or not k.startswith(DROPPED)},
        )
    except FileNotFoundError:
        raise _missing(argv[0]) from None
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{argv[0]}: no answer in {SECONDS} s") from None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["(no message)"])[-1]
