"""Evaluate several checkpoints: plan, run what is not done yet, and read the results."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from cotbal import plugins
from cotbal.benchmarks.zeroshot import command
from cotbal.benchmarks.zeroshot.cells import Cell, finish
from cotbal.benchmarks.zeroshot.checkpoint import Preparation, plan_preparation, write_copy
from cotbal.benchmarks.zeroshot.columns import ZeroShot
from cotbal.data.files import write_sealed
from cotbal.errors import CotbalError, RunError, RunsFailed
from cotbal.jobs.checkpoint_files import checkpoint_digest
from cotbal.jobs.executors import Job, Outcome, Resources, log_tail
from cotbal.jobs.inputs import differences
from cotbal.jobs.queue import archive_run, need_none_elsewhere, queued, release
from cotbal.training.run_paths import Below
from cotbal.weightings import method_label

EVALUATE = "cotbal.benchmarks.zeroshot.evaluate"
CHECKPOINT = "checkpoint"  # name of the folder in a run directory


@dataclass(frozen=True)
class Model:
    """A checkpoint under the name that it has in the table."""

    name: str
    checkpoint: Path


@dataclass(frozen=True)
class Work:
    """A cell that is not done, its command and what determines its result."""

    cell: Cell
    argv: tuple[str, ...]
    identity: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Evaluations to run, and those that are kept.

    Attributes:
        root: where everything is written.
        environment: the one that lmms-eval runs in.
        how: settings of the evaluation.
        preparations: name of the model -> how its copy differs; None where the checkpoint itself
            is used.
        works: cells that are not done.
        kept: cells that are.
        changed: directories of results that were made or begun with other settings, to be
            archived.
    """

    root: Path
    environment: command.Environment
    how: command.How
    preparations: dict[str, Preparation | None]
    works: tuple[Work, ...]
    kept: tuple[Cell, ...]
    changed: tuple[Path, ...]

    lmms = Below("lmms")  # task files and model that lmms-eval is given


def models_named(texts: Sequence[str]) -> tuple[Model, ...]:
    """Checkpoints given as `NAME=DIRECTORY` or `DIRECTORY`; the name is then that of the folder, or
    of the method.

    Raises:
        CotbalError: no such directory, or a name that is used twice or is no name of a folder.
    """
    models = []
    for text in texts:
        name, sign, path = text.partition("=")
        directory = Path(path if sign else text)
        if not (directory / "config.json").exists():
            raise CotbalError(
                f"{text}: expected the directory of a checkpoint, or NAME=DIRECTORY; found no"
                " config.json",
                "missing-file",
            )
        models.append(Model(name if sign else _name(directory.resolve()), directory))
    names = [model.name for model in models]
    if len(set(names)) < len(names) or not all(map(_fits_a_folder, names)):
        raise CotbalError(
            f"expected unique model names that are names of folders; found {', '.join(names)};"
            " give NAME=DIRECTORY",
            "invalid-name",
        )
    return tuple(models)


def _name(directory: Path) -> str:
    return method_label(directory.parent.name) if directory.name == CHECKPOINT else directory.name


def _fits_a_folder(name: str) -> bool:
    reserved = name in ("", "lmms") or name.startswith(".")
    return not reserved and not set(name) & set("/\\")


def plan(
    root: Path,
    models: Sequence[Model],
    columns: Sequence[ZeroShot],
    environment: command.Environment,
    how: command.How,
    restart_changed: bool,
) -> Plan:
    """Compare the checkpoints with the results on disk; writes nothing.

    Raises:
        CotbalError: a checkpoint cannot be prepared.
        RunError: a result on disk was made with other settings, and `restart_changed` is off.
    """
    preparations: dict[str, Preparation | None] = {}
    works: list[Work] = []
    kept: list[Cell] = []
    archived: list[Path] = []
    for model in models:
        preparation = _preparation(model, how)
        preparations[model.name] = preparation if preparation and preparation.changes else None
        digest = _digest(model.checkpoint, preparation)
        checkpoint = model.checkpoint
        if preparations[model.name] is not None:
            checkpoint = root / model.name / CHECKPOINT
        for column in columns:
            cell = Cell(root, model.name, column)
            identity = {"checkpoint": digest, **_identity(environment, how, column)}
            before = cell.made_from()
            changed = differences(before, identity) if before else []
            if cell.done and not changed:
                kept.append(cell)
                continue
            if changed:
                _demand_restart(cell, changed, restart_changed or not cell.done)
                archived.append(cell.root)
            argv = command.argv(environment, how, checkpoint, column, root / "lmms", cell.output)
            works.append(Work(cell, argv, identity))
    return Plan(root, environment, how, preparations, tuple(works), tuple(kept), tuple(archived))


def _preparation(model: Model, how: command.How) -> Preparation | None:
    """How the copy of a checkpoint differs; None for a model of lmms-eval's own."""
    if how.model != command.MODEL:
        return None
    return plan_preparation(model.checkpoint, how.as_trained)


def _demand_restart(cell: Cell, changed: Sequence[str], restart_changed: bool) -> None:
    if not restart_changed:
        raise RunError(
            f"{cell.root} was evaluated with other settings ({'; '.join(changed)});"
            " --restart-changed archives it",
            "changed-settings",
        )


def _identity(
    environment: command.Environment, how: command.How, column: ZeroShot
) -> dict[str, Any]:
    identity = {
        "tasks": list(column.tasks),
        "files": _files(),
        "as_trained": how.as_trained,
        "dtype": how.dtype,
        "limit": how.limit,
        "model": how.model,
        "model_args": how.model_args,
    }
    if column.judged:
        identity["judge"] = os.environ.get("MODEL_VERSION", "that of lmms-eval")
    return {**identity, **environment.versions}


def _files() -> str:
    """Digest of the task files and the model that lmms-eval is given."""
    source = files("cotbal.benchmarks.zeroshot").joinpath("lmms")
    texts = [
        entry.read_text(encoding="utf-8")
        for folder in ("tasks", "plugin")
        for entry in sorted(source.joinpath(folder).iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith((".yaml", ".py"))
    ]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def _digest(checkpoint: Path, preparation: Preparation | None) -> str:
    """Of the content: a model that was retrained in the same directory is another one."""
    written = {} if preparation is None else preparation.written
    content = f"{checkpoint_digest(str(checkpoint))}{json.dumps(written)}"
    return hashlib.sha256(content.encode()).hexdigest()


def _demand_key(columns: Sequence[ZeroShot]) -> None:
    judged = dict.fromkeys(column.name for column in columns if column.judged)
    if not judged or os.environ.get("API_TYPE", "openai") != "openai":
        return
    if not os.environ.get("OPENAI_API_KEY"):
        raise CotbalError(
            f"{' and '.join(judged)}: expected OPENAI_API_KEY for the judge; set it, or choose"
            " other --columns",
            "invalid-api-key",
        )


def run_plan(
    todo: Plan, executor: str, resources: Resources, report: Callable[[str], None]
) -> None:
    """Run the commands; a failure leaves the others running.

    Raises:
        CotbalError: a judge is needed and its key is missing, or the executor works in this
            process.
        RunError: an evaluation that another command has begun works in one of the directories.
        RunsFailed: commands failed, or left no result; each with the tail of its log.
    """
    if executor == "inline":
        raise CotbalError(
            "--on inline: expected an executor that starts processes, since lmms-eval runs in"
            " another interpreter",
            "invalid-option",
        )
    if not todo.works:
        return
    run = plugins.load("cotbal.jobs.executors", executor).run
    _demand_key([work.cell.column for work in todo.works])
    adopted = _settle(todo, executor, report)
    _write_inputs(todo, adopted)
    works = {_title(work.cell): work for work in todo.works}
    jobs = [
        Job(title, work.cell.root, _command(work), max(work.cell.column.questions))
        for title, work in works.items()
    ]
    variables = {**resources.environment, **command.variables(todo.lmms)}
    outcomes = run(jobs, replace(resources, environment=variables))
    failures = [_failure(outcome, works[outcome.job.name], todo, report) for outcome in outcomes]
    messages = [message for message in failures if message is not None]
    if messages:
        raise RunsFailed(
            f"{len(messages)} of {len(jobs)} evaluations failed; the others are kept\n"
            + "\n".join(messages)
        )


def _settle(todo: Plan, executor: str, report: Callable[[str], None]) -> set[Path]:
    """Archive what was made with other settings, once nothing works on it.

    Returns:
        The directories in which a job of an earlier command works, which this one adopts.
    """
    directories = [work.cell.root for work in todo.works]
    same = [path for path in directories if path not in todo.changed]
    need_none_elsewhere(same, executor)
    adopted = {job.directory for job in queued(same) if job.status is not None}
    release([path for path in directories if path not in adopted])
    for path in todo.changed:
        report(f"archived: {archive_run(path)}")
    return adopted


def _command(work: Work) -> tuple[str, ...]:
    return (sys.executable, "-m", EVALUATE, str(work.cell.root.resolve()), *work.argv)


def _write_inputs(todo: Plan, adopted: set[Path]) -> None:
    """Task files, copies of checkpoints, identities, and empty directories for the output."""
    command.write_files(todo.environment, todo.lmms)
    for name in dict.fromkeys(work.cell.model for work in todo.works):
        preparation = todo.preparations[name]
        if preparation is not None:
            write_copy(preparation, todo.root / name / CHECKPOINT)
    for work in todo.works:
        if work.cell.root not in adopted:
            shutil.rmtree(work.cell.output, ignore_errors=True)  # of an attempt that was not done
            write_sealed(work.cell.job, {"identity": work.identity})


def _title(cell: Cell) -> str:
    return f"{cell.model}, {cell.column.name}"


def _failure(outcome: Outcome, work: Work, todo: Plan, report: Callable[[str], None]) -> str | None:
    """Why an evaluation gave no number; None when it did."""
    if not outcome.ok:
        return outcome.message
    try:
        done = finish(work.cell, work.identity, todo.how.limit is None)
    except CotbalError as error:
        return f"{outcome.job.name}: {error}\n{log_tail(work.cell.log)}"
    minutes = outcome.seconds / 60
    report(f"{outcome.job.name}: {done['value']:.2f} after {minutes:.1f} min")
    return None
