"""Talking to Slurm's controller, which may be away for a while: sbatch, squeue, scancel."""

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

SECONDS = 60  # for a command; then the controller counts as silent
FORMAT = "%i|%T|%N|%r|%j"  # a name may hold anything, so it comes last
# By sbatch(1), squeue(1), "JOB STATE CODES"; every other state means that Slurm still has plans for
# the job.
ENDED = frozenset(
    {
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
    }
)
WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"}
)
# Why a job waits that Slurm could not start (its node died meanwhile, its prolog failed): until
# somebody releases it.
GIVEN_UP = "launch failed requeued held"
# What the commands say when the controller does not answer; whatever else sbatch refuses, it
# refuses for good.
AWAY = (
    "contact slurm controller",
    "timed out",
    "refused",
    "zero bytes",
    "standby",
    "temporarily",
    "connection failure",
    "resolve",
    "no route",
    "reset by peer",
    "transport endpoint",
)
# What it says to somebody who has as many jobs in the queue as he may have, in the words of old and
# new versions.
FULL = ("submitjob", "job submit limit")
# Variables that say which Slurm; the others of these names describe the job that we are in, if we
# are in one, or what somebody wants to see of the queue, and would change what the programs do.
KEPT = ("SLURM_CLUSTERS", "SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
DROPPED = ("SLURM_", "SQUEUE_", "SCANCEL_", "SBATCH_ARRAY_INX", "SBATCH_WAIT")


class Full(CotbalError):
    """The user may send no more jobs for now."""


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
        """Whether Slurm failed to start it and holds it back; a job that a person holds is another
        matter.
        """
        return self.alive and self.reason.strip("()").replace("_", " ").lower() == GIVEN_UP


def need_programs() -> None:
    """Look for the programs of Slurm.

    Raises:
        CotbalError: one is not on this machine.
    """
    missing = [
        program for program in ("sbatch", "squeue", "scancel") if shutil.which(program) is None
    ]
    if missing:
        raise CotbalError(
            f"expected Slurm's program {missing[0]} on this machine; found none on the PATH"
        )


def parse(listing: str) -> list[Entry]:
    """The lines of squeue in our format."""
    return [Entry(*line.split("|", 4)) for line in listing.splitlines() if line.count("|") >= 4]


def look() -> list[Entry]:
    """All jobs of this user that the controller knows; those that ended a few minutes ago are among
    them.

    Raises:
        Silent: it does not answer.
        CotbalError: there is no squeue.
    """
    return _listed("--me")


def look_for(ids: Sequence[str]) -> list[Entry]:
    """These jobs, whoever sent them; those that the controller has forgotten are left out.

    Raises:
        Silent: it does not answer.
        CotbalError: there is no squeue.
    """
    found: list[Entry] = []
    for id in ids:  # one by one, because it may refuse all for one that it does not know
        with contextlib.suppress(_Unknown):
            found += _listed(f"--jobs={id}")
    return found


class _Unknown(Silent):
    """There is no such job."""


def _listed(which: str) -> list[Entry]:
    done = _ask(["squeue", which, "--noheader", "--states=all", f"--format={FORMAT}"])
    if done.returncode != 0:
        problem = f"squeue: {_last_line(done.stderr)}"
        raise _Unknown(problem) if "invalid job id" in done.stderr.lower() else Silent(problem)
    return parse(done.stdout)


def send(options: Sequence[str], script: Path) -> str:
    """Submit a batch script; the id of the job.

    Raises:
        Silent: the controller did not answer, or the answer was lost: the job may be in the queue
            all the same.
        Full: there is no room for it among the jobs of this user.
        CotbalError: Slurm refused the job.
    """
    done = _ask(["sbatch", "--parsable", *options, str(script)])
    # A site's own program in front of sbatch may say more than the id, and the name of the cluster
    # may follow it.
    ids = re.findall(r"^(\d+)(?:;\S*)?$", done.stdout, re.MULTILINE)
    if done.returncode == 0 and ids:
        return str(ids[-1])
    if done.returncode == 0:
        raise Silent(f"sbatch: expected the id of a job, found {_last_line(done.stdout)}")
    problem, said = f"sbatch: {_last_line(done.stderr)}", done.stderr.lower()
    if any(word in said for word in AWAY):
        raise Silent(problem)
    raise Full(problem) if any(word in said for word in FULL) else CotbalError(problem)


def stop(ids: Sequence[str]) -> None:
    """Call jobs back; those that are over already are no error.

    Raises:
        Silent: the controller does not answer.
        CotbalError: a job is somebody else's.
    """
    done = _ask(["scancel", *ids])
    problem, said = f"scancel: {_last_line(done.stderr)}", done.stderr.lower()
    if done.returncode != 0 and any(word in said for word in AWAY):
        raise Silent(problem)
    if "permission denied" in said:
        raise CotbalError(problem)


def _ask(argv: list[str]) -> subprocess.CompletedProcess[str]:
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
        raise CotbalError(
            f"expected Slurm's program {argv[0]} on this machine; found none"
        ) from None
    except subprocess.TimeoutExpired:
        raise Silent(f"{argv[0]}: no answer in {SECONDS} s") from None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["(no message)"])[-1]
