"""Evaluate several checkpoints: plan, show, run what is not done yet, and read it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from cotbal import plugins
from cotbal.benchmarks.zeroshot import command
from cotbal.benchmarks.zeroshot.cells import Cell, finish
from cotbal.benchmarks.zeroshot.checkpoint import Preparation, carry_out, plan_preparation
from cotbal.benchmarks.zeroshot.columns import ZeroShot
from cotbal.errors import CotbalError, RunError, RunsFailed
from cotbal.jobs.executors import Job, Outcome, Resources, log_tail
from cotbal.jobs.inputs import checkpoint_digest, differences
from cotbal.jobs.rundir import move_aside
from cotbal.report.naming import method_label

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
    """What there is to do.

    Attributes:
        root: where everything is written.
        environment: the one that lmms-eval runs in.
        how: settings of the evaluation.
        preparations: name of the model -> what its copy differs in; None where the checkpoint is
            used itself.
        works: cells that are not done.
        kept: cells that are.
        aside: directories whose result was made otherwise, and that move aside.
    """

    root: Path
    environment: command.Environment
    how: command.How
    preparations: dict[str, Preparation | None]
    works: tuple[Work, ...]
    kept: tuple[Cell, ...]
    aside: tuple[Path, ...]

    @property
    def lmms(self) -> Path:
        """Task files and model that lmms-eval is given."""
        return self.root / "lmms"


def models_named(texts: Sequence[str]) -> tuple[Model, ...]:
    """Checkpoints given as `NAME=DIRECTORY` or `DIRECTORY`; the name is then that of the folder, or
    of the method.

    Raises:
        CotbalError: no such directory, or a name that stands twice or is no name of a folder.
    """
    models = []
    for text in texts:
        name, sign, path = text.partition("=")
        directory = Path(path if sign else text)
        if not (directory / "config.json").exists():
            raise CotbalError(
                f"{text}: expected the directory of a checkpoint, or NAME=DIRECTORY; found no"
                " config.json"
            )
        models.append(Model(name if sign else _name(directory.resolve()), directory))
    names = [model.name for model in models]
    wrong = [
        name
        for name in names
        if names.count(name) > 1 or not name or name[0] == "." or set(name) & set("/\\")
    ]
    if wrong or "lmms" in names:
        raise CotbalError(
            f"expected different names, fit for folders; found {', '.join(names)}; give"
            " NAME=DIRECTORY"
        )
    return tuple(models)


def _name(directory: Path) -> str:
    return method_label(directory.parent.name) if directory.name == CHECKPOINT else directory.name


def plan(
    root: Path,
    models: Sequence[Model],
    columns: Sequence[ZeroShot],
    environment: command.Environment,
    how: command.How,
    as_trained: bool,
    restart_changed: bool,
) -> Plan:
    """Look through the checkpoints and what is done already; writes nothing.

    Raises:
        CotbalError: a checkpoint cannot be prepared.
        RunError: a result on disk was made otherwise, and `restart_changed` is off.
    """
    ours = how.model == command.MODEL
    preparations = {
        m.name: plan_preparation(m.checkpoint, as_trained) if ours else None for m in models
    }
    works, kept, aside = [], [], []
    for model in models:
        preparation = preparations[model.name]
        unchanged = preparation is None or not preparation.changes
        place = model.checkpoint if unchanged else root / model.name / CHECKPOINT
        digest = _digest(model.checkpoint, preparation)
        for column in columns:
            cell = Cell(root, model.name, column)
            identity = {"checkpoint": digest, **_identity(environment, how, column, as_trained)}
            if (done := cell.done) and (changed := differences(done["identity"], identity)):
                if not restart_changed:
                    raise RunError(
                        f"{cell.path} was evaluated otherwise ({'; '.join(changed)});"
                        " --restart-changed moves it aside"
                    )
                aside.append(cell.path)
            elif done:
                kept.append(cell)
                continue
            line = command.argv(environment, how, place, column, root / "lmms", cell.output)
            works.append(Work(cell, line, identity))
    changed_only = {name: p if p and p.changes else None for name, p in preparations.items()}
    return Plan(root, environment, how, changed_only, tuple(works), tuple(kept), tuple(aside))


def _identity(
    environment: command.Environment, how: command.How, column: ZeroShot, as_trained: bool
) -> dict[str, Any]:
    given = {
        "dtype": how.dtype,
        "limit": how.limit,
        "model": how.model,
        "model_args": how.model_args,
    }
    judge = {"judge": os.environ.get("MODEL_VERSION", "that of lmms-eval")} if column.judged else {}
    known = {"tasks": list(column.tasks), "files": _files(), "as_trained": as_trained}
    return {**known, **given, **judge, **environment.versions}


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
    """Of the content: a model that was trained anew in the same place is another one."""
    written = {} if preparation is None else preparation.written
    return hashlib.sha256(
        f"{checkpoint_digest(str(checkpoint))}{json.dumps(written)}".encode()
    ).hexdigest()


def _need_judge(columns: Sequence[ZeroShot]) -> None:
    judged = dict.fromkeys(column.name for column in columns if column.judged)
    if (
        judged
        and os.environ.get("API_TYPE", "openai") == "openai"
        and not os.environ.get("OPENAI_API_KEY")
    ):
        named = " and ".join(judged)
        raise CotbalError(
            f"{named}: expected OPENAI_API_KEY for the judge; set it, or choose other --columns"
        )


def carry_out_plan(
    todo: Plan, executor: str, resources: Resources, say: Callable[[str], None]
) -> None:
    """Run the commands; a failure leaves the others running.

    Raises:
        CotbalError: a judge is needed and cannot be asked, or the executor works in this process.
        RunsFailed: commands failed, or left no result; each with the tail of its log.
    """
    if executor == "inline":
        raise CotbalError(
            "--on inline: expected an executor that starts processes: lmms-eval has an interpreter"
            " of its own"
        )
    if not todo.works:
        return
    run = plugins.load("cotbal.jobs.executors", executor).run
    _need_judge([work.cell.column for work in todo.works])
    for path in todo.aside:
        say(f"moved aside: {move_aside(path)}")
    command.write_files(todo.environment, todo.lmms)
    for name in dict.fromkeys(work.cell.model for work in todo.works):
        if (preparation := todo.preparations[name]) is not None:
            carry_out(preparation, todo.root / name / CHECKPOINT)
    for work in todo.works:
        shutil.rmtree(work.cell.output, ignore_errors=True)  # of an attempt that was never done
    jobs = [
        Job(_title(w.cell), w.cell.path, w.argv, max(w.cell.column.questions)) for w in todo.works
    ]
    works = {_title(work.cell): work for work in todo.works}
    given = Resources(
        resources.workers,
        resources.threads,
        {**resources.environment, **command.variables(todo.lmms)},
    )
    failures = [
        fault for outcome in run(jobs, given) if (fault := _ended(outcome, works, todo, say))
    ]
    if failures:
        raise RunsFailed(
            f"{len(failures)} of {len(jobs)} evaluations failed; the others are kept\n"
            + "\n".join(failures)
        )


def _title(cell: Cell) -> str:
    return f"{cell.model}, {cell.column.name}"


def _ended(
    outcome: Outcome, works: dict[str, Work], todo: Plan, say: Callable[[str], None]
) -> str | None:
    """What failed; None when the number is there."""
    if not outcome.ok:
        return outcome.message
    work = works[outcome.job.name]
    try:
        done = finish(work.cell, work.identity, todo.how.limit is None)
    except CotbalError as error:
        return f"{outcome.job.name}: {error}\n{log_tail(work.cell.log)}"
    say(f"{outcome.job.name}: {done['value']:.2f} after {outcome.seconds / 60:.1f} min")
    return None
