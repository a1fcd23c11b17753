"""One batch job of Slurm per run, submitted with sbatch; its state comes from squeue and from the
run's files.

Jobs outlive this process: rerunning the command finds them in the queue by their names.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cotbal.data.files import write_text
from cotbal.errors import CotbalError
from cotbal.jobs.executors import (
    STOPPED,
    Attempts,
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
from cotbal.jobs.executors._slurm_queue import (
    WAITING,
    Entry,
    NoAnswer,
    SubmitLimit,
    entries_of,
    need_programs,
    own_entries,
    stop,
    submit,
)
from cotbal.jobs.executors._slurm_script import (
    END,
    LOG,
    SCRIPT,
    SETUP,
    End,
    end_of,
    name_of,
    options,
    script,
)

NAME = "slurm"
RETRIED = "it is retried and resumes from its checkpoint"
TICK = 0.5  # seconds between looks at the files of the runs
POLL, SLOWEST_POLL = 1.0, 30.0  # seconds between looks at the queue: more while nothing happens
FIRST_ANSWER_SECONDS = 120.0  # for the controller when a command starts; later there is no limit
SETTLE_SECONDS = 5.0  # after a job has left the queue, for its files to be visible here
LATE_SECONDS = 120.0  # the same for a job that Slurm reports as completed, but that left no note
STOP_SECONDS = 60.0  # for cancelled jobs to save and leave
# States in which a retry would not help.
FINAL = {
    "OUT_OF_MEMORY": "ran out of memory (resources.memory)",
    "DEADLINE": "did not start before its deadline",
}

logger = logging.getLogger(__name__)


@dataclass
class _Submitted:
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
    """The last answer of the controller, requested less and less often while nothing changes."""

    entries: dict[str, Entry] = field(default_factory=dict)
    answered: float = 0.0
    due: float = 0.0
    pause: float = POLL

    def refresh(self) -> bool:
        """Look if it is time; whether there is a new answer."""
        if (asked := time.monotonic()) < self.due:
            return False
        before = self.entries
        with contextlib.suppress(NoAnswer):
            self.entries = {entry.id: entry for entry in own_entries()}
            self.answered = asked
        self.pause = min(self.pause * 1.5, SLOWEST_POLL) if self.entries == before else POLL
        self.due = time.monotonic() + self.pause
        return self.answered == asked

    def hurry(self) -> None:
        """Look again soon, because something changed."""
        self.pause, self.due = POLL, time.monotonic()

    def alive(self) -> list[Entry]:
        """The jobs of this user that wait or run."""
        return [entry for entry in self.entries.values() if entry.alive]


def run(jobs: Sequence[Job], resources: Resources) -> Iterator[Outcome]:
    """Submit the jobs, the longest first, at most `workers` at a time; jobs of these runs that are
    in the queue already are adopted.

    A job that was killed, preempted or lost with its node is retried and resumes from its
    checkpoint, see `cotbal.jobs.executors.Attempts`. While the controller does not answer, nothing
    is submitted and nothing counts as lost.

    Raises:
        CotbalError: there is no Slurm here, its controller does not answer, or another user's jobs
            work on these runs.
    """
    queue = _Queue()
    if jobs:
        need_programs()
        _await_answer(queue)
        _need_none_of_others(jobs, queue)
    return _run(jobs, resources, queue)


def _run(jobs: Sequence[Job], resources: Resources, queue: _Queue) -> Iterator[Outcome]:
    waiting = [Attempts(job) for job in sorted(jobs, key=lambda job: -job.cost)]
    submitted: list[_Submitted] = []
    try:
        while waiting or submitted:
            if queue.refresh():
                yield from _submit_all(waiting, submitted, queue, resources)
            for one in list(submitted):
                result = _check(one, queue)
                if result == "alive":
                    continue
                submitted.remove(one)
                queue.hurry()
                if result == "retry":
                    waiting.append(one.attempts)
                else:
                    yield result
            time.sleep(TICK)
    finally:
        if waiting or submitted:
            _cancel_all(jobs)


def _await_answer(queue: _Queue) -> None:
    deadline = time.monotonic() + FIRST_ANSWER_SECONDS
    while not queue.refresh():
        if time.monotonic() > deadline:
            raise NoAnswer(
                f"Slurm's controller has not answered for {FIRST_ANSWER_SECONDS:.0f} s; try again"
                " later"
            )
        time.sleep(TICK)
    queue.due = 0.0


def _need_none_of_others(jobs: Sequence[Job], queue: _Queue) -> None:
    """A recorded job that is alive, but not among those of this user, is another user's."""
    recorded = {job.directory: recorded_handle(job.directory) for job in jobs}
    job_of = {handle.id: job for job in jobs if (handle := recorded[job.directory]) is not None}
    for entry in entries_of([id for id in job_of if id not in queue.entries]):
        job = job_of.get(entry.id)
        if job is not None and entry.alive and entry.name == name_of(job):
            raise CotbalError(
                f"{job.directory}: this run is in the queue as job {entry.id} of another user; wait"
                " until it has ended, or have it cancelled",
                "run-in-use",
            )


def _submit_all(
    waiting: list[Attempts], submitted: list[_Submitted], queue: _Queue, resources: Resources
) -> Iterator[Outcome]:
    """Submit as many as allowed; rejected jobs have failed.

    Only after a fresh look at the queue, so that nothing is submitted twice because an answer was
    lost.
    """
    in_queue = {entry.name: entry.id for entry in reversed(queue.alive())}
    for attempts in list(waiting):
        if resources.workers is not None and len(submitted) >= resources.workers:
            return
        job = attempts.job
        try:
            id = in_queue.get(name_of(job)) or _submit(job, resources)
            record_handle(job.directory, JobHandle(NAME, id))
        except NoAnswer:
            return
        except (CotbalError, OSError) as error:
            if isinstance(error, SubmitLimit) and (submitted or in_queue):
                return  # until one of them has ended
            waiting.remove(attempts)
            how = (
                "could not be submitted" if isinstance(error, OSError) else "was rejected by Slurm"
            )
            yield Outcome(job, False, 0.0, f"{job.name} {how}\n{error}")
            continue
        waiting.remove(attempts)
        submitted.append(_Submitted(attempts, id))


def _submit(job: Job, resources: Resources) -> str:
    threads = resources.threads
    if threads is None and job.needs.cpus:
        threads = max(1, job.needs.cpus * job.needs.nodes // job.needs.processes)
    environment = {**thread_environment(threads), **resources.environment}
    job.directory.mkdir(parents=True, exist_ok=True)
    (job.directory / END).unlink(missing_ok=True)
    write_text(job.directory / SCRIPT, script(job, environment))
    return submit(options(job), job.directory / SCRIPT)


def _check(one: _Submitted, queue: _Queue) -> Outcome | Literal["alive", "retry"]:
    """How a job ended, or whether it is alive or must be retried."""
    end = end_of(one.job.directory, one.id)
    entry = queue.entries.get(one.id)
    if end is not None and end.code == 0:
        return _outcome(one, "")
    if not _is_over(one, entry, queue.answered, end is not None):
        return "alive"
    if recorded_handle(one.job.directory) != JobHandle(NAME, one.id):
        return _outcome(one, "was cancelled")
    if end is not None and end.stage == SETUP:
        return _outcome(one, f"failed in resources.setup with exit code {end.code}", LOG)
    if entry is not None and entry.state in FINAL:
        return _outcome(one, FINAL[entry.state])
    return _check_attempt(one, entry, end)


def _check_attempt(
    one: _Submitted, entry: Entry | None, end: End | None
) -> Outcome | Literal["alive", "retry"]:
    """Retry a job or not; one that Slurm holds is removed from the queue first."""
    if entry is not None and entry.held:
        try:
            stop([one.id])
        except NoAnswer:
            return "alive"
    verdict = one.attempts.verdict(end.code if end else None)
    problem = _problem(one.id, entry, end)
    if verdict == "retry":
        logger.warning("%s %s; %s", one.job.name, problem, RETRIED)
        return verdict
    return _outcome(one, "" if verdict == "done" else problem)


def _is_over(one: _Submitted, entry: Entry | None, answered: float, noted: bool) -> bool:
    """Whether the job has left the queue, or is held in it for good, and its files are visible."""
    if answered <= one.since:
        return False  # there was no look at the queue since
    if entry is not None and entry.alive and not entry.held:
        one.left = None
        return False
    one.left = one.left or time.monotonic()
    completed = entry is not None and entry.state == "COMPLETED"
    patience = LATE_SECONDS if completed else SETTLE_SECONDS
    return noted or time.monotonic() - one.left > patience


def _problem(id: str, entry: Entry | None, end: End | None) -> str:
    """Why a job ended; without an end, its script left no note."""
    if entry is not None and entry.held:
        return f"could not be started by Slurm ({entry.reason}), job {id}"
    state = "" if entry is None else f" ({entry.state})"
    if end is None or end.code > 128:
        return f"was stopped from outside{state}, job {id}"
    if end.code == STOPPED:
        return f"was stopped{state}, job {id}, after saving a checkpoint"
    return f"ended with exit code {end.code}{state}, job {id}"


def _outcome(one: _Submitted, problem: str, log: str = "log.txt") -> Outcome:
    """The end of a job; an empty problem means success."""
    directory = one.job.directory
    forget_handle(directory)
    if not (directory / log).exists():
        log = LOG  # the run has not begun
    message = f"{one.job.name} {problem}\n{log_tail(directory / log)}" if problem else ""
    return Outcome(one.job, not problem, time.monotonic() - one.since, message)


def _cancel_all(jobs: Sequence[Job]) -> None:
    """Stop the jobs in the queue when the command is interrupted.

    By name, since the interruption may have come before sbatch returned the id; twice, since the
    controller may still be about to accept such a job.
    """
    names = {name_of(job) for job in jobs}
    try:
        for _ in range(2):
            time.sleep(TICK)
            ids = [entry.id for entry in own_entries() if entry.alive and entry.name in names]
            if ids:
                cancel(ids)
    except CotbalError as error:
        logger.warning("%s; the jobs stay in the queue: rerun the command to adopt them", error)
        return
    for job in jobs:
        forget_handle(job.directory)


def statuses(ids: Sequence[str]) -> dict[str, JobStatus]:
    """Those of these jobs that wait or run.

    Raises:
        CotbalError: the controller does not answer.
    """
    entries = {entry.id: entry for entry in own_entries()}
    missing = [id for id in ids if id not in entries]
    entries |= {entry.id: entry for entry in entries_of(missing)}
    statuses = {}
    for id in ids:
        entry = entries.get(id)
        if entry is not None and entry.alive:
            statuses[id] = _status(entry)
    return statuses


def _status(entry: Entry) -> JobStatus:
    if entry.state in WAITING:
        return JobStatus("queued", f"waiting: {entry.reason}")
    state = "" if entry.state == "RUNNING" else f" ({entry.state})"
    return JobStatus("running", f"on {entry.nodes}{state}")


def cancel(ids: Sequence[str]) -> None:
    """Cancel jobs and wait until they have ended; so do others of their names, whose ids were lost.

    Raises:
        CotbalError: the controller does not answer, a job is another user's, or a job has not ended
            after STOP_SECONDS.
    """
    entries = own_entries()
    names = {entry.name for entry in entries if entry.id in ids}
    unrecorded = [entry.id for entry in entries if entry.alive and entry.name in names]
    ids = list(dict.fromkeys([*ids, *unrecorded]))
    stop(ids)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(NoAnswer):
            if not any(entry.alive for entry in own_entries() if entry.id in ids):
                return
        time.sleep(TICK)
    raise CotbalError(
        f"Slurm's jobs {', '.join(ids)}: expected them to end within {STOP_SECONDS:.0f} s of being"
        " cancelled; some are still in the queue. Wait until they have left it, then rerun this"
        " command",
        "run-in-use",
    )
