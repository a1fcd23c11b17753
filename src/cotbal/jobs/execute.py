"""From planned runs to finished runs: job files, an executor, and the report of failures."""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from typing import Any

from cotbal import plugins
from cotbal.data.files import (
    as_written,
    is_locked,
    locked,
    now,
    read_json,
    remove_leftovers,
    write_json,
    write_sealed,
)
from cotbal.errors import MissingDependency, RunError, RunsFailed
from cotbal.jobs.checkpoint_files import checkpoint_stat, lost_files
from cotbal.jobs.executors import Helper, Job, Outcome, Resources, forget_handle
from cotbal.jobs.inputs import differences, identity
from cotbal.jobs.launching import is_launched
from cotbal.jobs.plan import Planned, Prepared
from cotbal.jobs.queue import archive_run, need_none_elsewhere, record_driver, release
from cotbal.jobs.rundir import submission_of
from cotbal.recipe.recipe import Recipe
from cotbal.training.run_paths import RunPaths
from cotbal.training.tracking import Tracking, need_trackers, tracking_id

WORKER = "cotbal.jobs.worker"
HELPER = "cotbal.jobs.helper"
Show = Callable[[Outcome], None]
Watch = Callable[[Sequence[Job], Sequence[Job], int], AbstractContextManager[Show]]


@dataclass(frozen=True)
class Options:
    """How a job runs; nothing here changes a result.

    Attributes:
        executor: a name of `cotbal.jobs.executors`.
        resources: what the jobs may use.
        keep_checkpoints: keep the trained models of the probes (those of final runs are always
            kept).
        restart_changed: archive runs that no longer fit the recipe, instead of stopping.
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
        """The files of the run."""
        return self.planned.paths


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


def execute(
    prepared: Prepared, works: Sequence[Work], options: Options, begin: Callable[[], None]
) -> None:
    """Run what is not done yet; a failure leaves the others running.

    This is where a job resumes: a run whose `outcome.json` exists is done, and its worker resumes
    from the last partial checkpoint otherwise.

    Args:
        begin: writes what the runs read; called once nothing on disk contradicts them.

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
    remove_leftovers(prepared.root.root)
    need_none_elsewhere([job.directory for job in waiting], options.executor)
    outcomes = run(waiting, options.resources) if waiting else None  # rejects what cannot run here
    begin()
    for entry in entries:
        _settle(entry, prepared, options)
    if outcomes is None:
        return
    record_driver(prepared.root.driver, options.executor)
    try:
        follow(outcomes, waiting, finished, options)
    finally:
        prepared.root.driver.unlink(missing_ok=True)
        # A worker that was killed may still be ending while the next one tidies up its directory.
        remove_leftovers(prepared.root.root)


def _need_packages(works: Sequence[Work], options: Options) -> None:
    """Report missing packages before anything starts, if the runs execute on this machine."""
    local = options.executor in ("processes", "inline")
    here = local and not all(work.paths.done for work in works)
    if here and importlib.util.find_spec("torch") is None:
        raise MissingDependency("training", "train")
    need_trackers(options.trackers, here)


def _entry(prepared: Prepared, work: Work, options: Options) -> _Entry:
    planned, paths = work.planned, work.paths
    recipe, checkpoint = prepared.recipe_of(planned), prepared.checkpoint_of(planned)
    content = identity(
        recipe, planned.run, prepared.inputs, checkpoint, work.weights, prepared.images
    )
    before: Mapping[str, Any] = content
    if paths.job.exists():
        with as_written(paths.job):
            before = dict(read_json(paths.job)["identity"])
    changed = [*differences(before, content), *_lost(paths)]
    if changed and not options.restart_changed:
        listed = "\n".join(f"  {line}" for line in changed)
        raise RunError(
            f"{paths.root}: this run was made from something else:\n{listed}\n"
            "undo the change, give another --out, or archive such runs with --restart-changed",
            "changed-settings",
        )
    return _Entry(work, content, _job(planned, recipe, prepared.plan.epochs), bool(changed))


def _job(planned: Planned, recipe: Recipe, epochs: float) -> Job:
    paths = planned.paths
    command, helping = (
        (sys.executable, "-m", module, str(paths.job.resolve())) for module in (WORKER, HELPER)
    )
    return Job(
        planned.label,
        paths.root,
        command,
        planned.work(epochs),
        recipe.resources,
        (WORKER,),
        None if is_launched(recipe.resources) else Helper(helping, paths.queue),
    )


def _lost(paths: RunPaths) -> list[str]:
    """What is gone of a run. A model that was removed as a whole was not lost."""
    begun = (paths.outcome, paths.trained, paths.partial, paths.root / "generations")
    if not paths.job.exists() and any(path.exists() for path in begun):
        return [f"{paths.job.name}: missing, so what the run was made from is not known"]
    if not paths.done:
        return []
    with as_written(paths.outcome):
        written = read_json(paths.outcome).get("checkpoint")
        if not written or not paths.checkpoint.exists():
            return []
        return lost_files(paths.checkpoint, written)


def _release(entries: Sequence[_Entry]) -> None:
    """Cancel the jobs of runs that are about to be archived.

    Raises:
        RunError: `cotbal submission` uses the model of such a run, so that its answers would be
            taken for those of the new model; or the worker of such a run has not ended.
    """
    stale = [entry.work.paths.root for entry in entries if entry.stale]
    for root in stale:
        if is_locked(submission_of(root).driver_lock):
            raise RunError(
                f"{root}: `cotbal submission` uses this model; wait for it, or stop it, then rerun"
                " this command",
                "run-in-use",
            )
    release([*stale, *(submission_of(root).root for root in stale)])


def _settle(entry: _Entry, prepared: Prepared, options: Options) -> None:
    """Write the job file of a run that is not done; archive what was made from something else."""
    planned, paths = entry.work.planned, entry.work.paths
    if entry.stale:
        _archive(paths)
    if paths.done:
        forget_handle(paths.root)  # it ended while no driver ran
        return
    run, weights = planned.run, entry.work.weights
    content = {
        "root": str(prepared.root.root.resolve()),
        "run": run.to_json(),
        "kind": planned.kind,
        "records": planned.records,
        "weights": None if weights is None else dict(weights),
        "keep_checkpoint": options.keep_checkpoints or planned.kind == "final",
        "ranks": entry.job.needs.processes,
        "identity": dict(entry.identity),
        "checkpoint_stat": checkpoint_stat(prepared.recipe_of(planned).checkpoint),
        "tracking": None,
    }
    if options.trackers:
        project, group = prepared.recipe.name, prepared.root.root.resolve().name
        id = tracking_id(paths.root, entry.identity)
        tracking = Tracking(options.trackers, project, group, planned.label, planned.kind, id)
        content["tracking"] = vars(tracking)
    write_sealed(paths.job, content)
    paths.failure.unlink(missing_ok=True)


def _archive(paths: RunPaths) -> None:
    """Archive a run while no worker is in it, and no command uses its model."""
    answers = submission_of(paths.root)
    with locked(answers.driver_lock) if answers.root.exists() else nullcontext():
        archive_run(paths.root)


def follow(
    outcomes: Any,
    waiting: Sequence[Job],
    finished: Sequence[Job],
    options: Options,
    what: str = "runs",
) -> None:
    """Follow the jobs of an executor to their ends and record failures in their `failure.json`.

    Raises:
        RunsFailed: jobs failed.
    """
    failures = []
    watch = options.watch or _silent
    with watch(waiting, finished, options.later) as show, closing(outcomes):
        for outcome in outcomes:
            show(outcome)
            if not outcome.ok:
                content = {"message": outcome.message, "time": now()}
                write_json(RunPaths(outcome.job.directory).failure, content)
                failures.append(outcome)
    if failures:
        count = len(waiting) + len(finished)
        head = f"{len(failures)} of {count} {what} failed; the others are kept.\n\n"
        raise RunsFailed(head + "\n\n".join(_explained(failures)))


def _silent(*_: object) -> AbstractContextManager[Show]:
    return nullcontext(lambda _: None)


def _explained(failures: Sequence[Outcome]) -> Iterator[str]:
    """Every failed job by name; jobs that failed in the same way share one tail of a log."""
    alike: dict[str, list[Outcome]] = {}
    for failure in failures:
        last_line = failure.message.strip().splitlines()[-1]
        alike.setdefault(last_line, []).append(failure)
    for group in alike.values():
        names = ", ".join(failure.job.name for failure in group)
        first = group[0]
        log = RunPaths(first.job.directory).log
        message = first.message.strip()
        advice = "\nthe disk is full: make room" if os.strerror(errno.ENOSPC) in message else ""
        yield f"{names}\n{message}\n(whole log: {log}){advice}"
