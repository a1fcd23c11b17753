"""`cotbal tune`: open the data, choose records, measure candidates, choose settings."""

from __future__ import annotations

import importlib.util
import math
import os
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cotbal.errors import CotbalError, MissingDependency, near
from cotbal.jobs.executors import Resources, processes
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.runs import prepare
from cotbal.jobs.tuning.measure import Processes, Report
from cotbal.jobs.tuning.outcome import Tuned, tuned
from cotbal.jobs.tuning.rows import rows_to_time
from cotbal.jobs.tuning.search import Search
from cotbal.jobs.tuning.settings import (
    CHECKPOINTING,
    COMPILE,
    DTYPE,
    KINDS,
    MICRO,
    PACKING,
    THREADS,
    WORKERS,
    Space,
)
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import cost, final_run

WORKERS_BESIDE_A_GPU = 4  # as `cotbal.data.batches.loading` does, which needs PyTorch


@dataclass(frozen=True)
class TuneOptions:
    """How much is measured.

    Attributes:
        rounds: how often a candidate is measured in turns with the recipe's own settings.
        steps: timed optimizer steps of every process.
        threads: of a run; None: as many as `cotbal run` gives it.
        without: kinds of settings that are not tried, by the last part of their names.
    """

    rounds: int = 3
    steps: int = 3
    threads: int | None = None
    without: Collection[str] = ()


def tune(recipe: Recipe, options: TuneOptions, report: Report = lambda _: None) -> Tuned:
    """Time candidates with the recipe's own model, records and loss; nothing is kept.

    Args:
        report: receives a line about what happens next, or has ended.

    Raises:
        CotbalError: an option or the data is invalid, the recipe cannot be trained, or no candidate
            fits into memory.
    """
    fields = _fields(options.without)
    if importlib.util.find_spec("torch") is None:
        raise MissingDependency("training", "train")
    _ = recipe.model  # raises where there is none
    with tempfile.TemporaryDirectory(prefix="cotbal-tune-") as folder:
        final = final_run(recipe.mixture, "ew", recipe.file.optimization.seed)
        report("opening the data")
        prepared = prepare(recipe, RunDir(Path(folder) / "run"), [(final, "final")])
        inputs, run = prepared.inputs, prepared.plan.runs[0].run
        rows = rows_to_time(recipe, inputs, run, options.steps)
        longest = "" if rows.longest is None else f"; the longest has {rows.longest:,} tokens"
        report(f"steps are made of {rows.measured:,} records{longest}")
        space = space_of(recipe, options.threads, fields)
        threads = space.values[THREADS] if not space.gpu and space.alone else None
        measure = Processes(
            recipe,
            Path(folder),
            rows,
            options.steps,
            None if threads is None else int(threads),
            report,
        )
        optimization = recipe.file.optimization
        records = cost(run, inputs.sizes) * optimization.epochs
        steps = math.ceil(records / optimization.batch_size)
        search = Search(space, measure, options.rounds, steps, recipe.model.lora.dropout > 0)
        search.run()
        load = os.getloadavg()[1] if hasattr(os, "getloadavg") else 0.0
        return tuned(search, measure.memory_mib or 0, load)


def space_of(recipe: Recipe, threads: int | None, without: frozenset[str] = frozenset()) -> Space:
    """The recipe's own settings on this machine, and what limits the choice."""
    optimization, model, resources = recipe.file.optimization, recipe.model, recipe.resources
    gpu = bool(processes.visible_gpus())
    share = optimization.batch_size // resources.processes if resources.processes > 1 else 0
    share = share or optimization.batch_size
    workers = resources.dataloader_workers
    if workers is None:
        workers = WORKERS_BESIDE_A_GPU if gpu else 0
    return Space(
        values={
            MICRO: min(optimization.micro_batch_size, share),
            PACKING: optimization.packing,
            CHECKPOINTING: model.gradient_checkpointing,
            COMPILE: model.compile,
            DTYPE: model.dtype,
            WORKERS: workers,
            THREADS: threads or processes.available(Resources(), 2).threads,
        },
        share=share,
        cores=_cores(),
        gpu=gpu,
        alone=resources.processes == 1,
        by_micro_batch=optimization.normalizer == "per_device",
        compiles=model.quantization is None and resources.accelerate_config is None,
        without=without,
    )


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _fields(kinds: Collection[str]) -> frozenset[str]:
    """Fields of these kinds of settings.

    Raises:
        CotbalError: there is no such kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise CotbalError(
                f"--without: expected {', '.join(KINDS)}; found {kind!r}{near(kind, list(KINDS))}",
                "invalid-option",
            )
    return frozenset(KINDS[kind] for kind in kinds)
