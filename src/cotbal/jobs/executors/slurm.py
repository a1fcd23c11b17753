"""One batch job of Slurm a run, through sbatch itself; what is known of it comes from squeue and
from the run's files.

Jobs outlive this process: whoever gives the same command again finds them in the queue by their
names.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cotbal.data.files import write_text
from cotbal.errors import CotbalError
from cotbal.jobs.executors import (
    Job,
    JobHandle,
    JobStatus,
    Outcome,
    Resources,
    forget_handle,
    log_tail,
    record_handle,
    recorded_handle,
    thread_environment,
)
from cotbal.jobs.executors._attempts import Attempts
from cotbal.jobs.executors._slurm_ends import end_of, how, problem_of
from cotbal.jobs.executors._slurm_queue import (
    WAITING,
    Entry,
    Full,
    Silent,
    look,
    look_for,
    need_programs,
    send,
    stop,
)
from cotbal.jobs.executors._slurm_script import END, LOG, SCRIPT, name_of, options, script

NAME = "slurm"
TICK = 0.5  # seconds between looks at the files of the runs
POLL, SLOWEST_POLL = 1.0, 30.0  # seconds between looks at the queue: more while nothing happens
FIRST_ANSWER_SECONDS = (
    120.0  # that the controller may be away when a command starts; later it may be so for ever
)
SETTLE_SECONDS = (
    5.0  # for files of another machine to be seen here after its job has left the queue
)
# for the note of a script that has ended well by the queue: file systems show it after a minute
LATE_SECONDS = 120.0
STOP_SECONDS = 60.0  # for jobs that were called back to save and leave

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
        return next(
            (entry for entry in self.entries.values() if entry.name == name and entry.alive), None
        )

    @property
    def holds_any(self) -> bool:
        """Whether any job of this user waits or runs."""
        return any(entry.alive for entry in self.entries.values())


def run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    """Send the jobs, the longest first, at most `workers` at a time; jobs of these runs in the
    queue are taken over.

    A job that was killed, preempted or lost with its node is sent again and resumes from its
    checkpoint, see `cotbal.jobs.executors._attempts`. While the controller is away nothing is sent
    and nothing is given up.

    Raises:
        CotbalError: there is no Slurm here, or, once it is iterated, its controller does not answer
            from the start, or another user's jobs work on these runs.
    """
    if jobs:
        need_programs()
    return _run(jobs, resources)


def _run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    if not jobs:
        return
    queue = _Queue()
    _first_answer(queue)
    _need_none_of_others(jobs, queue)
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
        if waiting or sent:
            _call_back(jobs)


def _first_answer(queue: _Queue) -> None:
    deadline = time.monotonic() + FIRST_ANSWER_SECONDS
    while not queue.refresh():
        if time.monotonic() > deadline:
            raise CotbalError(
                f"Slurm's controller has not answered for {FIRST_ANSWER_SECONDS:.0f} s; try again"
                " later"
            )
        time.sleep(TICK)
    queue.due = 0.0


def _need_none_of_others(jobs: Sequence[Job], queue: _Queue) -> None:
    """A run whose job is in the queue, but not among those of this user, is somebody else's."""
    places = {p.id: job for job in jobs if (p := recorded_handle(job.directory)) is not None}
    for entry in look_for([id for id in places if id not in queue.entries]):
        job = places.get(entry.id)
        if job is not None and entry.alive and entry.name == name_of(job):
            raise CotbalError(
                f"{job.directory}: this run is in the queue as job {entry.id} of another user; wait"
                " until it has left, or have it called back"
            )


def _send_all(
    waiting: list[Attempts], sent: list[_Sent], queue: _Queue, resources: Resources
) -> Iterator[Outcome]:
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
            record_handle(job.directory, JobHandle(NAME, id))
        except Silent:
            return
        except (CotbalError, OSError) as error:
            if isinstance(error, Full) and (sent or queue.holds_any):
                return  # until one of them has left
            waiting.remove(attempts)
            by = "could not be sent" if isinstance(error, OSError) else "was refused by Slurm"
            yield Outcome(job, False, 0.0, f"{job.name} {by}\n{error}")
            continue
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
    """How a job ended, if it did for good; one that has to be sent again is put among the
    waiting."""
    end, entry = end_of(one.job.directory, one.id), queue.entries.get(one.id)
    if end is not None and end[1] == 0:
        return _close(one, True, "")
    if not _is_over(one, entry, queue.answered, end is not None):
        return None
    called_back = recorded_handle(one.job.directory) != JobHandle(NAME, one.id)
    if problem := ("was called back", "log.txt") if called_back else problem_of(entry, end):
        return _close(one, False, *problem)
    if entry is not None and entry.given_up and not _taken_back(one.id):
        return None  # later, when the controller answers
    code = end[1] if end else None
    verdict, ending = one.attempts.verdict(code), how(one.id, entry, code)
    if verdict != "again":
        return _close(one, verdict == "done", ending)
    logger.warning("%s %s; it is sent again and resumes from its checkpoint", one.job.name, ending)
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
    """Whether the job has left the queue, or is held back in it for good, and what it wrote can be
    seen here.
    """
    if answered <= one.since:
        return False  # the queue was not looked at since
    if entry is not None and entry.alive and not entry.given_up:
        one.left = None
        return False
    one.left = one.left or time.monotonic()
    well = entry is not None and entry.state == "COMPLETED"
    return noted or time.monotonic() - one.left > (LATE_SECONDS if well else SETTLE_SECONDS)


def _close(one: _Sent, ok: bool, ending: str, log: str = "log.txt") -> Outcome:
    forget_handle(one.job.directory)
    if not (one.job.directory / log).exists():
        log = LOG  # the run has not begun
    message = "" if ok else f"{one.job.name} {ending}\n{log_tail(one.job.directory / log)}"
    return Outcome(one.job, ok, time.monotonic() - one.since, message)


def _call_back(jobs: Sequence[Job]) -> None:
    """Stop what is in the queue when the command is interrupted.

    By name, since the interruption may have come before sbatch could tell the id; twice, since the
    controller may still be about to take such a job in.
    """
    names = {name_of(job) for job in jobs}
    try:
        for _ in range(2):
            time.sleep(TICK)
            if ids := [entry.id for entry in look() if entry.alive and entry.name in names]:
                cancel(ids)
    except CotbalError as error:
        logger.warning(
            "%s; the jobs stay in the queue, and the same command finds them there", error
        )
        return
    for job in jobs:
        forget_handle(job.directory)


def statuses(ids: Sequence[str]) -> dict[str, JobStatus]:
    """Those of these jobs that wait or run.

    Raises:
        CotbalError: the controller does not answer.
    """
    listed = {entry.id: entry for entry in look()}
    missing = [id for id in ids if id not in listed]
    listed |= {entry.id: entry for entry in look_for(missing)}
    alive = {id: entry for id, entry in listed.items() if entry.alive}
    return {id: _status(alive[id]) for id in ids if id in alive}


def _status(entry: Entry) -> JobStatus:
    if entry.state in WAITING:
        return JobStatus("queued", f"waiting: {entry.reason}")
    state = "" if entry.state == "RUNNING" else f" ({entry.state})"
    return JobStatus("running", f"on {entry.nodes}{state}")


def cancel(ids: Sequence[str]) -> None:
    """Call jobs back and wait until they have left; so do others of their names, whose ids were
    lost.

    Raises:
        CotbalError: the controller does not answer, or a job is another user's.
    """
    listed = look()
    names = {entry.name for entry in listed if entry.id in ids}
    ids = list(
        dict.fromkeys(
            [*ids, *(entry.id for entry in listed if entry.alive and entry.name in names)]
        )
    )
    stop(ids)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(Silent):
            if not any(entry.alive for entry in look() if entry.id in ids):
                return
        time.sleep(TICK)
