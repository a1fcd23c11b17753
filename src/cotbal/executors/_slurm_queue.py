"""Talking to Slurm's controller, which may be away for a while: sbatch, squeue, scancel."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cotbal.errors import CotbalError

SECONDS = 60  # for a command; then the controller counts as silent
FORMAT = "%i|%T|%N|%r|%j"  # a name may hold anything, so it comes last
# By sbatch(1), squeue(1), "JOB STATE CODES"; every other state means that Slurm still has plans for the job.
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
     "TIMEOUT"}
)  # fmt: skip
WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
# Why a job waits that Slurm could not start (its node died meanwhile, its prolog failed): until somebody releases it.
GIVEN_UP = "launch failed requeued held"
# What the commands say when the controller does not answer; whatever else sbatch refuses, it refuses for good.
AWAY = (
    "contact slurm controller", "timed out", "refused", "zero bytes", "standby", "temporarily", "connection failure",
    "resolve", "no route", "reset by peer", "transport endpoint",
)  # fmt: skip


class Silent(CotbalError):
    """The controller does not answer; it may later."""


@dataclass(frozen=True)
class Entry:
    """One line of the queue.

    Attributes:
        id: of the job.
        state: a word of Slurm.
        nodes: where it runs.
        reason: why it waits.
        name: of the job.
    """

    id: str
    state: str
    nodes: str
    reason: str
    name: str

    @property
    def alive(self) -> bool:
        """Whether it waits or runs, or will be started again by Slurm itself."""
        return self.state not in ENDED

    @property
    def given_up(self) -> bool:
        """Whether Slurm failed to start it and holds it back; a job that a person holds is another matter."""
        return self.alive and self.reason.strip("()").replace("_", " ").lower() == GIVEN_UP


def need_programs() -> None:
    """Look for the programs of Slurm.

    Raises:
        CotbalError: one is not on this machine.
    """
    missing = [program for program in ("sbatch", "squeue", "scancel") if shutil.which(program) is None]
    if missing:
        raise CotbalError(f"expected Slurm's program {missing[0]} on this machine; found none on the PATH")


def parse(listing: str) -> list[Entry]:
    """The lines of squeue in our format."""
    return [Entry(*line.split("|", 4)) for line in listing.splitlines() if line.count("|") >= 4]


def look() -> list[Entry]:
    """All jobs of this user that the controller knows; those that ended a few minutes ago are among them.

    Raises:
        Silent: it does not answer.
        CotbalError: there is no squeue.
    """
    done = _ask(["squeue", "--me", "--noheader", "--states=all", f"--format={FORMAT}"])
    if done.returncode != 0:
        raise Silent(f"squeue: {_last_line(done.stderr)}")
    return parse(done.stdout)


def send(options: Sequence[str], script: Path) -> str:
    """Submit a batch script; the id of the job.

    Raises:
        Silent: the controller did not answer, or the answer was lost: the job may be in the queue all the same.
        CotbalError: Slurm refused the job.
    """
    done = _ask(["sbatch", "--parsable", *options, str(script)])
    if done.returncode == 0:
        return done.stdout.strip().partition(";")[0]
    fault = f"sbatch: {_last_line(done.stderr)}"
    raise Silent(fault) if any(word in done.stderr.lower() for word in AWAY) else CotbalError(fault)


def stop(ids: Sequence[str]) -> None:
    """Call jobs back; those that are over already are no fault.

    Raises:
        Silent: the controller does not answer.
    """
    done = _ask(["scancel", *ids])
    if done.returncode != 0 and any(word in done.stderr.lower() for word in AWAY):
        raise Silent(f"scancel: {_last_line(done.stderr)}")


def _ask(argv: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=SECONDS)
    except FileNotFoundError:
        raise CotbalError(f"expected Slurm's program {argv[0]} on this machine; found none") from None
    except subprocess.TimeoutExpired:
        raise Silent(f"{argv[0]}: no answer in {SECONDS} s") from None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["(no message)"])[-1]
