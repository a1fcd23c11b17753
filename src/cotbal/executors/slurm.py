"""One batch job of Slurm a run, through sbatch itself; what is known of it comes from squeue and from the run's files.

Jobs outlive this process: whoever gives the same command again finds them in the queue by their names.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cotbal.errors import CotbalError
from cotbal.executors import (
    STOPPED,
    Job,
    Outcome,
    Place,
    Resources,
    Standing,
    forget_place,
    log_tail,
    record_place,
    recorded_place,
    thread_environment,
)
from cotbal.executors._attempts import Attempts
from cotbal.executors._slurm_queue import WAITING, Entry, Silent, look, need_programs, send, stop
from cotbal.executors._slurm_script import END, LOG, SCRIPT, SETUP, name_of, options, script
from cotbal.rundir import write_text

NAME = "slurm"
TICK = 0.5  # seconds between looks at the files of the runs
POLL, SLOWEST_POLL = 1.0, 30.0  # seconds between looks at the queue: more while nothing happens
FIRST_ANSWER_SECONDS = 120.0  # that the controller may be away when a command starts; later it may be so for ever
SETTLE_SECONDS = 5.0  # for files of another machine to be seen here after its job has left the queue
STOP_SECONDS = 60.0  # for jobs that were called back to save and leave
OWN_FAULTS = {
    "OUT_OF_MEMORY": "ran out of memory (resources.memory)",
    "DEADLINE": "did not start before its deadline",
}

logger = logging.getLogger(__name__)


@dataclass
class _Sent:
    """A job in the queue."""

    attempts: Attempts
    id: str
    since: float = field(default_factory=time.monotonic)
    left: float | None = None  # when the queue was first seen without it

    @property
    def job(self) -> Job:
        return self.attempts.job


@dataclass
class _Queue:
    """What the controller said last, asked less and less often while nothing changes."""

    entries: dict[str, Entry] = field(default_factory=dict)
    answered: float = 0.0
    due: float = 0.0
    pause: float = POLL

    def refresh(self) -> bool:
        """Look if it is time; whether there is a new answer."""
        if (asked := time.monotonic()) < self.due:
            return False
        before, answered = self.entries, True
        try:
            self.entries = {entry.id: entry for entry in look()}
            self.answered = asked
        except Silent:
            answered = False
        self.pause = min(self.pause * 1.5, SLOWEST_POLL) if self.entries == before else POLL
        self.due = time.monotonic() + self.pause
        return answered

    def hurry(self) -> None:
        """Something happened: look again soon."""
        self.pause, self.due = POLL, time.monotonic()

    def named(self, name: str) -> Entry | None:
        """The job of this name that is alive."""
        return next((entry for entry in self.entries.values() if entry.name == name and entry.alive), None)


def run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    """Send the jobs, the longest first, at most `workers` at a time; jobs of these runs in the queue are taken over.

    A job that was killed, preempted or lost with its node is sent again and goes on from its checkpoint, see
    `cotbal.executors._attempts`. While the controller is away nothing is sent and nothing is given up.

    Raises:
        CotbalError: there is no Slurm here, or, once it is iterated, its controller does not answer from the start.
    """
    if jobs:
        need_programs()
    return _run(jobs, resources)


def _run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    if not jobs:
        return
    queue = _Queue()
    _first_answer(queue)
    waiting = [Attempts(job) for job in sorted(jobs, key=lambda job: -job.cost)]
    sent: list[_Sent] = []
    try:
        while waiting or sent:
            if queue.refresh():
                yield from _send_all(waiting, sent, queue, resources)
            for one in list(sent):
                outcome = _look_at(one, queue, waiting)
                if outcome is not None or one.attempts in waiting:
                    sent.remove(one)
                    queue.hurry()
                if outcome is not None:
                    yield outcome
            time.sleep(TICK)
    finally:
        _call_back(sent)


def _first_answer(queue: _Queue) -> None:
    deadline = time.monotonic() + FIRST_ANSWER_SECONDS
    while not queue.refresh():
        if time.monotonic() > deadline:
            raise CotbalError(f"Slurm's controller has not answered for {FIRST_ANSWER_SECONDS:.0f} s; try again later")
        time.sleep(TICK)
    queue.due = 0.0


def _send_all(waiting: list[Attempts], sent: list[_Sent], queue: _Queue, resources: Resources) -> Iterator[Outcome]:
    """Send what may be sent; those that Slurm refuses have failed.

    Only after a fresh look at the queue, so that nothing is sent twice because an answer was lost.
    """
    for attempts in list(waiting):
        if resources.workers is not None and len(sent) >= resources.workers:
            return
        job = attempts.job
        there = queue.named(name_of(job))
        try:
            id = there.id if there is not None else _send(job, resources)
        except Silent:
            return
        except CotbalError as error:
            waiting.remove(attempts)
            yield Outcome(job, False, 0.0, f"{job.name} was refused by Slurm\n{error}")
            continue
        record_place(job.directory, Place(NAME, id))
        waiting.remove(attempts)
        sent.append(_Sent(attempts, id))


def _send(job: Job, resources: Resources) -> str:
    ranks = job.needs.processes // job.needs.nodes
    threads = resources.threads or (max(1, job.needs.cpus // ranks) if job.needs.cpus else None)
    environment = {**(thread_environment(threads) if threads else {}), **resources.environment}
    job.directory.mkdir(parents=True, exist_ok=True)
    (job.directory / END).unlink(missing_ok=True)
    write_text(job.directory / SCRIPT, script(job, environment))
    return send(options(job), job.directory / SCRIPT)


def _look_at(one: _Sent, queue: _Queue, waiting: list[Attempts]) -> Outcome | None:
    """How a job ended, if it did for good; one that has to be sent again is put among the waiting."""
    end, entry = _end_of(one), queue.entries.get(one.id)
    if end is not None and end[1] == 0:
        return _close(one, True, "")
    if not _is_over(one, entry, queue.answered, end is not None):
        return None
    if fault := _fault(one, entry, end):
        return _close(one, False, *fault)
    if entry is not None and entry.given_up and not _taken_back(one.id):
        return None  # later, when the controller answers
    code = end[1] if end else None
    verdict, how = one.attempts.verdict(code), _how(one, entry, code)
    if verdict != "again":
        return _close(one, verdict == "done", how)
    logger.warning("%s %s; it is sent again and goes on from its checkpoint", one.job.name, how)
    waiting.append(one.attempts)
    return None


def _taken_back(id: str) -> bool:
    """Remove from the queue what Slurm holds back; whether it answered."""
    try:
        stop([id])
    except Silent:
        return False
    return True


def _is_over(one: _Sent, entry: Entry | None, answered: float, noted: bool) -> bool:
    """Whether the job has left the queue, or is held back in it for good, and what it wrote can be seen here."""
    if answered <= one.since:
        return False  # the queue was not looked at since
    if entry is not None and entry.alive and not entry.given_up:
        one.left = None
        return False
    one.left = one.left or time.monotonic()
    return noted or time.monotonic() - one.left > SETTLE_SECONDS


def _fault(one: _Sent, entry: Entry | None, end: tuple[str, int] | None) -> tuple[str, str] | None:
    """Why a job is not to be sent again whatever the run has reached, and the log that says more."""
    if recorded_place(one.job.directory) != Place(NAME, one.id):
        return "was called back", "log.txt"
    if end is not None and end[0] == SETUP:
        return f"failed in resources.setup with exit code {end[1]}", LOG
    if entry is not None and entry.state in OWN_FAULTS:
        return OWN_FAULTS[entry.state], "log.txt"
    return None


def _end_of(one: _Sent) -> tuple[str, int] | None:
    """Stage and exit code of the script of this job, if it came to its end."""
    try:
        id, stage, code = (one.job.directory / END).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    return (stage, int(code)) if id == one.id else None


def _how(one: _Sent, entry: Entry | None, code: int | None) -> str:
    if entry is not None and entry.given_up:
        return f"could not be started by Slurm ({entry.reason}), job {one.id}"
    word = "" if entry is None else f" ({entry.state})"
    if code == STOPPED:
        return f"was told to stop{word}, job {one.id}, and has saved"
    if code is None or code > 128:
        return f"was stopped from outside{word}, job {one.id}"
    return f"ended with exit code {code}{word}, job {one.id}"


def _close(one: _Sent, ok: bool, how: str, log: str = "log.txt") -> Outcome:
    forget_place(one.job.directory)
    message = "" if ok else f"{one.job.name} {how}\n{log_tail(one.job.directory / log)}"
    return Outcome(one.job, ok, time.monotonic() - one.since, message)


def _call_back(sent: Sequence[_Sent]) -> None:
    """Stop what is in the queue when the command is interrupted."""
    if not sent:
        return
    try:
        cancel([one.id for one in sent])
    except CotbalError as error:
        logger.warning("%s; the jobs stay in the queue, and the same command finds them there", error)
        return
    for one in sent:
        forget_place(one.job.directory)


def standings(ids: Sequence[str]) -> dict[str, Standing]:
    """Those of these jobs that wait or run.

    Raises:
        CotbalError: the controller does not answer.
    """
    alive = {entry.id: entry for entry in look() if entry.alive}
    return {id: _standing(alive[id]) for id in ids if id in alive}


def _standing(entry: Entry) -> Standing:
    if entry.state in WAITING:
        return Standing("queued", f"waiting: {entry.reason}")
    return Standing("running", f"on {entry.nodes}" + ("" if entry.state == "RUNNING" else f" ({entry.state})"))


def cancel(ids: Sequence[str]) -> None:
    """Call jobs back and wait until they have left.

    Raises:
        CotbalError: the controller does not answer.
    """
    stop(ids)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(Silent):
            if not any(entry.alive for entry in look() if entry.id in ids):
                return
        time.sleep(TICK)
