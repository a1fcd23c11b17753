"""`python -m cotbal.jobs.worker JOB`: one run = train, then answer and score. Everything it needs
is in the job file.
"""

from __future__ import annotations

import gc
import importlib.metadata
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cotbal.data.batches.collate import Row
from cotbal.data.batches.order import Mixed, Part
from cotbal.data.batches.processors import load_processor
from cotbal.data.batches.questions import collator_for
from cotbal.data.batches.row_lengths import RowLengths
from cotbal.data.files import now, read_json, write_json
from cotbal.data.reading.record import Record
from cotbal.data.reading.records import default_cache, open_records
from cotbal.data.sampling import kept_records, read_manifest
from cotbal.jobs.entry import job_begun
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.scoring import write_scores
from cotbal.recipe.mixture import Task
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import Run
from cotbal.training import evaluation
from cotbal.training import train as training
from cotbal.training.ranks import Ranks, Stopped
from cotbal.training.run_paths import RunPaths
from cotbal.training.tracking import Tracking, reporting

PROGRESS_SECONDS = 0.3
TRAINING_SHARE = (
    0.75  # guess of the share of a run's time before anything was timed, for the progress display
)


def main(arguments: Sequence[str]) -> None:
    """Do the run that the job file describes; skip what is already on disk.

    Where a launcher started several ranks, all of them come here; the first holds the lock and
    writes.
    """
    file = Path(arguments[0])
    job, paths = read_json(file), RunPaths(file.parent)
    with job_begun(paths) as (ranks, stop):
        if not ranks.agreed(paths.done):
            _do(job, RunDir(Path(job["root"])), paths, _Progress(paths, ranks, stop))


def _do(job: dict[str, Any], root: RunDir, paths: RunPaths, progress: _Progress) -> None:
    started = time.monotonic()
    ranks = progress.ranks
    recipe = load_recipe(root.recipe)
    recipe = recipe.for_probes if job["kind"] == "probe" else recipe
    run = Run(**job["run"])
    progress.write("loading", 0, 1, 0.0)
    if not ranks.agreed(paths.trained.exists()):
        trained = _train(recipe, run, root, job, paths, progress)
        if ranks.main:
            write_json(paths.trained, vars(trained))
            shutil.rmtree(paths.partial, ignore_errors=True)
        ranks.wait()
        _free()
    seconds = _evaluate(recipe, run, paths, progress)
    if not ranks.main:
        return
    trained_facts = read_json(paths.trained)
    facts = {
        "run": run.name,
        "seconds": {
            "training": round(trained_facts["seconds"], 3),
            "generating": round(seconds, 3),
            "total": round(time.monotonic() - started, 3),
        },
        **{key: trained_facts[key] for key in ("steps", "records", "tokens", "self_check")},
        "ignored_generation_settings": evaluation.ignored_settings(
            recipe.checkpoint, recipe.model.remote_code
        ),
        "peak_memory_mib": _peak_memory_mib(),
        "ranks": ranks.size,
        "threads": torch.get_num_threads(),
        "versions": {
            name: importlib.metadata.version(name) for name in ("cotbal", "torch", "transformers")
        },
    }
    if not job["keep_checkpoint"]:
        shutil.rmtree(paths.checkpoint, ignore_errors=True)
    progress.write("scoring", 1, 1, 1.0)
    write_json(paths.outcome, facts)


def _train(
    recipe: Recipe,
    run: Run,
    root: RunDir,
    job: dict[str, Any],
    paths: RunPaths,
    progress: _Progress,
) -> training.Trained:
    """Train on the portions of the run; a run without any is the base checkpoint as it is."""
    if not run.portions:
        progress.share = 0.0
        return training.Trained(steps=0, records=0, tokens=0, seconds=0.0, self_check=None)
    rows = Mixed(_parts(recipe, run, root))
    tracking = Tracking(**job["tracking"]) if job.get("tracking") and progress.ranks.main else None
    session = training.Session(progress.training, progress.ranks, progress.stop, tracking)
    with reporting(tracking, paths.root):
        return training.train(recipe, run, rows, job["weights"], paths, session)


def _parts(recipe: Recipe, run: Run, root: RunDir) -> list[Part]:
    parts = []
    for name, portion in run.portions.items():
        if portion == "none":
            continue
        task = recipe.mixture[name]
        records = open_records(task.train, default_cache())
        seen = read_manifest(root.portions(name)).of(portion)
        parts.append((name, records, seen, task.instruction))
    return parts


@dataclass(frozen=True)
class _Set:
    """One evaluation set of the run."""

    task: Task
    split: str
    records: list[Record]
    metrics: tuple[str, ...]


def _evaluation_sets(recipe: Recipe, run: Run) -> list[_Set]:
    """The validation sets and test splits that the run answers."""
    sets = []
    for name in run.validation:
        task = recipe.mixture[name]
        assert task.validation is not None  # checked with the recipe
        sets.append(
            _Set(
                task, "validation", _records(recipe, task.validation), task.metrics_of("validation")
            )
        )
    for name in run.test:
        task = recipe.mixture[name]
        sets += [
            _Set(task, split, _records(recipe, path), task.metrics_of(split))
            for split, path in task.test.items()
        ]
    return sets


def _records(recipe: Recipe, path: Path) -> list[Record]:
    records = open_records(path, default_cache(), evaluation=True)
    policy = recipe.file.on_missing_image
    kept, _ = kept_records(records, recipe.images, policy, rejected=partial(_rejected, recipe))
    return [records[int(i)] for i in kept]


def _rejected(recipe: Recipe, names: Sequence[str]) -> dict[str, str]:
    """Of these images those that the model's processor cannot process, as they were planned."""
    processor = load_processor(recipe.checkpoint, recipe.model.remote_code)
    collator = collator_for(processor, recipe.images, recipe.model.max_length)
    return RowLengths(collator).rejected(names)


def _free() -> None:
    """Give up what the training held on this rank's GPU: the answers need the place.

    A model that is sharded could answer only with all ranks in step, a token of the longest answer
    at a time. So every rank loads the checkpoint that was just written, whole and in `model.dtype`
    (7B in bfloat16: 14 GB), and answers its share of the questions as in a run that is not sharded.
    """
    gc.collect()  # trainer, optimizer and model refer to each other
    torch.cuda.empty_cache()


def _evaluate(recipe: Recipe, run: Run, paths: RunPaths, progress: _Progress) -> float:
    """Answer and score every evaluation set of the run; sets that were already answered are left
    alone.
    """
    started = time.monotonic()
    ranks = progress.ranks
    sets = _evaluation_sets(recipe, run)
    missing = ranks.agreed([not paths.generations(s.task.name, s.split).exists() for s in sets])
    waiting = [s for s, absent in zip(sets, missing, strict=True) if absent]
    if waiting:
        checkpoint = str(paths.checkpoint) if run.portions else recipe.checkpoint
        answer = evaluation.answerer(recipe, checkpoint, ranks)
        _answer(waiting, sum(len(s.records) for s in sets), answer, paths, progress)
    if ranks.main:
        for s in sets:
            write_scores(paths, s.task.name, s.split, s.metrics)
    return time.monotonic() - started


def _answer(
    sets: Sequence[_Set],
    total: int,
    answer: evaluation.Answer,
    paths: RunPaths,
    progress: _Progress,
) -> None:
    """Answer these sets and keep the answers; `total` is the number of records of all sets."""
    done = total - sum(len(s.records) for s in sets)
    for s in sets:
        rows = [Row(record, s.task.name, s.task.instruction) for record in s.records]
        answers = answer(rows, partial(progress.answers, done, total, s.task.name))
        if progress.ranks.main:
            evaluation.write_generations(paths, s.task.name, s.split, s.records, answers)
        done += len(rows)


class _Progress:
    """Writes where the run is, a few times a second at most, and knows whether it has to stop."""

    def __init__(self, paths: RunPaths, ranks: Ranks, stop: Callable[[], bool]) -> None:
        self.path = paths.progress
        self.ranks = ranks
        self.stop = stop
        self.last = 0.0
        self.share = TRAINING_SHARE

    def training(self, done: int, total: int, loss: float | None) -> None:
        """After an optimizer step."""
        self.write("training", done, total, self.share * done / total, detail="", loss=loss)

    def answers(self, before: int, total: int, task: str, given: int) -> None:
        """After a batch of answers: `given` of this set, `before` of the sets before it.

        Raises:
            Stopped: the run was asked to stop; the sets that were answered so far are on disk.
        """
        if self.stop():
            raise Stopped
        done = before + given
        self.write(
            "generating",
            done,
            total,
            self.share + (1 - self.share) * done / max(total, 1),
            detail=task,
        )

    def write(
        self,
        phase: str,
        done: int,
        total: int,
        fraction: float,
        detail: str = "",
        loss: float | None = None,
    ) -> None:
        """One progress file, whole; the last step of a phase is always written."""
        if not self.ranks.main or (now() - self.last < PROGRESS_SECONDS and done < total):
            return
        self.last = now()
        entry = {
            "phase": phase,
            "done": done,
            "total": total,
            "fraction": round(fraction, 4),
            "detail": detail,
        }
        write_json(self.path, {**entry, "loss": loss, "time": self.last})


def _peak_memory_mib() -> int:
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib // 1024 if sys.platform != "darwin" else kib // 1024**2


if __name__ == "__main__":
    main(sys.argv[1:])
