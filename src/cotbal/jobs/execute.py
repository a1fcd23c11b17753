"""From planned runs to finished runs: job files, an executor, and what to say when one fails."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from cotbal import plugins
from cotbal.data.files import archive, is_locked, now, read_json, write_json
from cotbal.errors import MissingDependency, RunError, RunsFailed
from cotbal.jobs.executors import Job, Outcome, Resources, forget_handle
from cotbal.jobs.inputs import differences, identity
from cotbal.jobs.plan import Planned, Prepared
from cotbal.jobs.queue import cancel_jobs, need_none_elsewhere, queued, record_driver
from cotbal.jobs.submission_paths import submission_of
from cotbal.training.run_paths import RunPaths
from cotbal.training.tracking import Tracking, need_trackers, tracking_id

Watch = Callable[
    [Sequence[Job], Sequence[Job], int], AbstractContextManager[Callable[[Outcome], None]]
]


@dataclass(frozen=True)
class Options:
    """How a job runs; nothing here changes a result.

    Attributes:
        executor: a name of `cotbal.jobs.executors`.
        resources: what the jobs may use.
        keep_checkpoints: keep the trained models of the probes (those of final runs are always
            kept).
        restart_changed: move runs aside that no longer fit the recipe, instead of stopping.
        watch: shows the jobs while they run; called with (jobs to run, jobs already done, number of
            jobs after them).
        trackers: where the runs report while they train, see `cotbal.training.tracking`.
        later: how many jobs the same command will run after these.
    """

    executor: str = "processes"
    resources: Resources = field(default_factory=Resources)
    keep_checkpoints: bool = False
    restart_changed: bool = False
    watch: Watch | None = None
    trackers: tuple[str, ...] = ()
    later: int = 0


@dataclass(frozen=True)
class Work:
    """One planned run and the weights it trains with."""

    planned: Planned
    weights: Mapping[str, float] | None = None

    @property
    def paths(self) -> RunPaths:
        """Its files."""
        return self.planned.paths


def execute(
    prepared: Prepared, works: Sequence[Work], options: Options, begin: Callable[[], None]
) -> None:
    """Run what is not done yet; a failure leaves the others running.

    This is where a job resumes: a run whose `outcome.json` exists is done, and its worker resumes
    from the last partial checkpoint otherwise.

    Args:
        begin: writes what the runs read; called once nothing on disk speaks against them.

    Raises:
        RunError: a run on disk does not fit the recipe, or is in another queue than that of the
            executor.
        CotbalError: the runs would run here, and torch or a tracker is not installed.
        RunsFailed: runs failed; every failure is named with the tail of its log.
    """
    run = plugins.load("cotbal.jobs.executors", options.executor).run
    _need_packages(works, options)
    entries = [_entry(prepared, work, options) for work in works]
    waiting = [entry.job for entry in entries if not entry.done]
    finished = [entry.job for entry in entries if entry.done]
    _release(entries)
    need_none_elsewhere([job.directory for job in waiting], options.executor)
    outcomes = run(waiting, options.resources) if waiting else None  # rejects what cannot run here
    begin()
    for entry in entries:
        _settle(entry, prepared, options)
    if outcomes is None:
        return
    record_driver(prepared.root.driver, options.executor)
    try:
        failures = consume(outcomes, waiting, finished, options)
    finally:
        prepared.root.driver.unlink(missing_ok=True)
    if failures:
        raise RunsFailed(explain(failures, len(works)))


@dataclass(frozen=True)
class _Entry:
    """One run of a command: `stale` if what is on disk was made from something else."""

    work: Work
    identity: Mapping[str, Any]
    job: Job
    stale: bool

    @property
    def done(self) -> bool:
        return self.work.paths.done and not self.stale


def _entry(prepared: Prepared, work: Work, options: Options) -> _Entry:
    recipe = prepared.recipe_of(work.planned)
    checkpoint = prepared.checkpoint_of(work.planned)
    content = identity(recipe, work.planned.run, prepared.inputs, checkpoint, work.weights)
    stale = _changed(work, content, options)
    command = (sys.executable, "-m", "cotbal.jobs.worker", str(work.paths.job.resolve()))
    length = work.planned.work(prepared.plan.epochs)
    job = Job(work.planned.label, work.paths.root, command, length, recipe.resources)
    return _Entry(work, content, job, stale)


def _need_packages(works: Sequence[Work], options: Options) -> None:
    """Say what to install before anything starts, where the runs execute on this
    machine."""
    here = options.executor in ("processes", "inline") and not all(
        work.paths.done for work in works
    )
    if here and importlib.util.find_spec("torch") is None:
        raise MissingDependency("training", "train")
    need_trackers(options.trackers, here)


def _release(entries: Sequence[_Entry]) -> None:
    """Cancel the jobs of runs that are about to be archived.

    Raises:
        RunError: a command has the model of such a run answer; its answers would be taken for those
            of the new model.
    """
    stale = [entry.work.paths.root for entry in entries if entry.stale]
    for root in stale:
        if is_locked(submission_of(root).driver_lock):
            raise RunError(
                f"{root}: `cotbal submission` has this model answer; wait for it, or stop it, then"
                " run this command again"
            )
    cancel_jobs(queued([*stale, *(submission_of(root).root for root in stale)]))


def _changed(work: Work, entries: Mapping[str, Any], options: Options) -> bool:
    """Whether what is on disk belongs to another run, and is to be archived."""
    if not work.paths.job.exists():
        return False
    changed = differences(read_json(work.paths.job)["identity"], entries)
    if changed and not options.restart_changed:
        listed = "\n".join(f"  {line}" for line in changed)
        raise RunError(
            f"{work.paths.root}: this run was made from something else:\n{listed}\n"
            "undo the change, give another --out, or archive such runs with --restart-changed"
        )
    return bool(changed)


def _settle(entry: _Entry, prepared: Prepared, options: Options) -> None:
    """Write the job file of a run that is not done; archive what was made from something else."""
    work = entry.work
    if entry.stale:
        archive(work.paths.root)
    if work.paths.done:
        forget_handle(work.paths.root)  # it ended while no driver was there
        return
    run = work.planned.run
    content = {
        "root": str(prepared.root.root.resolve()),
        "run": {**vars(run), "portions": dict(run.portions)},
        "kind": work.planned.kind,
        "records": work.planned.records,
        "weights": None if work.weights is None else dict(work.weights),
        "keep_checkpoint": options.keep_checkpoints or work.planned.kind == "final",
        "ranks": prepared.recipe_of(work.planned).resources.processes,
        "identity": dict(entry.identity),
        "tracking": _tracking(work, prepared, entry.identity, options),
    }
    write_json(work.paths.job, content)
    work.paths.failure.unlink(missing_ok=True)


def _tracking(
    work: Work, prepared: Prepared, entries: Mapping[str, Any], options: Options
) -> dict[str, Any] | None:
    if not options.trackers:
        return None
    planned, root = work.planned, prepared.root.root.resolve()
    run_id = tracking_id(work.paths.root, entries)
    return vars(
        Tracking(
            options.trackers, prepared.recipe.name, root.name, planned.label, planned.kind, run_id
        )
    )


def consume(
    outcomes: Any, waiting: Sequence[Job], finished: Sequence[Job], options: Options
) -> list[Outcome]:
    """Follow jobs to their ends; gives those that failed, each with its `failure.json`."""
    failures = []
    with (options.watch or _silent)(waiting, finished, options.later) as show:
        try:
            for outcome in outcomes:
                show(outcome)
                if not outcome.ok:
                    write_json(
                        outcome.job.directory / "failure.json",
                        {"message": outcome.message, "time": now()},
                    )
                    failures.append(outcome)
        finally:
            outcomes.close()  # stops what still runs when the user interrupts
    return failures


def _silent(*_: object) -> AbstractContextManager[Callable[[Outcome], None]]:
    return nullcontext(lambda _: None)


def explain(failures: Sequence[Outcome], count: int, what: str = "runs") -> str:
    """Every failed run by name; runs that failed in the same way share one tail of a log."""
    alike: dict[str, list[Outcome]] = {}
    for failure in failures:
        alike.setdefault(failure.message.strip().splitlines()[-1], []).append(failure)
    parts = []
    for group in alike.values():
        names = ", ".join(failure.job.name for failure in group)
        log = group[0].job.directory / "log.txt"
        parts.append(f"{names}\n{group[0].message.strip()}\n(whole log: {log})")
    return f"{len(failures)} of {count} {what} failed; the others are kept.\n\n" + "\n\n".join(
        parts
    )
