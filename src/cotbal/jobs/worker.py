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
from cotbal.data.batches.repeats import repeats
from cotbal.data.batches.row_lengths import RowLengths
from cotbal.data.files import default_cache, read_json, write_json
from cotbal.data.reading.record import Record
from cotbal.data.reading.records import open_records
from cotbal.data.sampling import kept_records, read_manifest
from cotbal.jobs.entry import Progress, job_begun
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.scoring import write_scores
from cotbal.recipe.mixture import TRAIN, Task
from cotbal.recipe.ratios import allotted
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import Run
from cotbal.training import evaluation
from cotbal.training import train as training
from cotbal.training.ranks import Ranks, Stopped
from cotbal.training.run_paths import RunPaths
from cotbal.training.tracking import Tracking, reporting

# Estimated share of the training in the time of a run, for the progress display.
TRAINING_SHARE = 0.75


@dataclass(frozen=True)
class _Set:
    """One evaluation set of a run."""

    task: Task
    split: str
    records: list[Record]


def main(arguments: Sequence[str]) -> None:
    """Execute the run of the job file; skip what is already on disk.

    A launcher starts this on several ranks; the first holds the lock and writes.
    """
    file = Path(arguments[0])
    job, paths = read_json(file), RunPaths(file.parent)
    with job_begun(paths) as (ranks, stop):
        if not ranks.agreed(paths.done):
            _Execution(job, paths, ranks, stop).execute()


class _Execution:
    """One run on one rank."""

    def __init__(
        self, job: dict[str, Any], paths: RunPaths, ranks: Ranks, stop: Callable[[], bool]
    ) -> None:
        self.job, self.paths, self.ranks, self.stop = job, paths, ranks, stop
        self.root = RunDir(Path(job["root"]))
        recipe = load_recipe(self.root.recipe)
        self.recipe = recipe.for_probes if job["kind"] == "probe" else recipe
        self.run = Run(**job["run"])
        self.progress = Progress(paths.progress, ranks)
        self.share = TRAINING_SHARE if self.run.portions else 0.0

    def execute(self) -> None:
        """Train, answer, score, and write the outcome last."""
        started = time.monotonic()
        ranks, paths = self.ranks, self.paths
        self.progress.write("loading", 0, 1, 0.0)
        if not ranks.agreed(paths.trained.exists()):
            trained = self._train()
            if ranks.main:
                write_json(paths.trained, vars(trained))
                shutil.rmtree(paths.partial, ignore_errors=True)
            ranks.wait()
            _free()
        generating = self._evaluate()
        if not ranks.main:
            return
        if not self.job["keep_checkpoint"]:
            shutil.rmtree(paths.checkpoint, ignore_errors=True)
        self.progress.write("scoring", 1, 1, 1.0)
        write_json(paths.outcome, self._outcome(generating, time.monotonic() - started))

    def _outcome(self, generating: float, total: float) -> dict[str, Any]:
        trained = read_json(self.paths.trained)
        seconds = {"training": trained["seconds"], "generating": generating, "total": total}
        packages = ("cotbal", "torch", "transformers")
        return {
            "run": self.run.name,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            **{key: trained[key] for key in ("steps", "records", "tokens", "self_check")},
            "ignored_generation_settings": evaluation.ignored_settings(
                self.recipe.checkpoint, self.recipe.model.remote_code
            ),
            "peak_memory_mib": _peak_memory_mib(),
            "ranks": self.ranks.size,
            "threads": torch.get_num_threads(),
            "versions": {name: importlib.metadata.version(name) for name in packages},
        }

    def _train(self) -> training.Trained:
        """Train on the portions of the run; a run without any is the base checkpoint as it is."""
        if not self.run.portions:
            return training.Trained(steps=0, records=0, tokens=0, seconds=0.0, self_check=None)
        tracking = None
        if self.job.get("tracking") and self.ranks.main:
            tracking = Tracking(**self.job["tracking"])
        session = training.Session(self._report_step, self.ranks, self.stop, tracking)
        rows, weights = self._rows(), self.job["weights"]
        with reporting(tracking, self.paths.root):
            return training.train(self.recipe, self.run, rows, weights, self.paths, session)

    def _report_step(self, done: int, total: int, loss: float | None) -> None:
        self.progress.write("training", done, total, self.share * done / total, loss=loss)

    def _rows(self) -> Mixed:
        parts = self._parts()
        if self.run.ratios is None:
            return Mixed(parts)
        sizes = {task: len(indices) for task, _, indices, _ in parts}
        return Mixed(parts, repeats(sizes, allotted(self.run.ratios, sizes), self.run.seed))

    def _parts(self) -> list[Part]:
        parts = []
        for name, portion in self.run.portions.items():
            if portion == "none":
                continue
            task = self.recipe.mixture[name]
            records = open_records(task.files[TRAIN], default_cache())
            seen = read_manifest(self.root.portions(name)).of(portion)
            parts.append((name, records, seen, task.instruction))
        return parts

    def _evaluate(self) -> float:
        """Answer and score every evaluation set that is not answered yet; seconds it took."""
        started = time.monotonic()
        sets = self._sets()
        files = [self.paths.generations(s.task.name, s.split) for s in sets]
        missing = self.ranks.agreed([not file.exists() for file in files])
        waiting = [s for s, absent in zip(sets, missing, strict=True) if absent]
        if waiting:
            self._answer(waiting, sum(len(s.records) for s in sets))
        for s in sets if self.ranks.main else ():
            write_scores(self.paths, s.task.name, s.split, s.task.metrics_of(s.split))
        return time.monotonic() - started

    def _sets(self) -> list[_Set]:
        """The validation sets and test splits that the run answers."""
        recipe, sets = self.recipe, []
        for name in self.run.validation:
            task = recipe.mixture[name]
            assert task.validation is not None  # checked with the recipe
            sets.append(_Set(task, "validation", _records(recipe, task.validation)))
        for name in self.run.test:
            task = recipe.mixture[name]
            for split, path in task.test.items():
                sets.append(_Set(task, split, _records(recipe, path)))
        return sets

    def _answer(self, sets: Sequence[_Set], total: int) -> None:
        """Answer these sets and keep the answers; `total` is the number of records of all sets."""
        checkpoint = str(self.paths.checkpoint) if self.run.portions else self.recipe.checkpoint
        answer = evaluation.answerer(self.recipe, checkpoint, self.ranks)
        done = total - sum(len(s.records) for s in sets)
        for s in sets:
            rows = [Row(record, s.task.name, s.task.instruction) for record in s.records]
            answers = answer(rows, partial(self._report_answers, done, total, s.task.name))
            if self.ranks.main:
                evaluation.write_generations(self.paths, s.task.name, s.split, s.records, answers)
            done += len(rows)

    def _report_answers(self, before: int, total: int, task: str, count: int) -> None:
        """After a batch of answers: `count` of this set, `before` of the sets before it.

        Raises:
            Stopped: the run was asked to stop; the sets that were answered so far are on disk.
        """
        if self.stop():
            raise Stopped
        done = before + count
        fraction = self.share + (1 - self.share) * done / max(total, 1)
        self.progress.write("generating", done, total, fraction, detail=task)


def _records(recipe: Recipe, path: Path) -> list[Record]:
    records = open_records(path, default_cache(), evaluation=True)
    policy = recipe.file.on_missing_image
    rejected = partial(_rejected, recipe)
    kept, _ = kept_records(
        records, recipe.images, policy, rejected=rejected, confined=recipe.confined
    )
    return [records[int(i)] for i in kept]


def _rejected(recipe: Recipe, names: Sequence[str]) -> dict[str, str]:
    """Of these images those that the model's processor cannot process, as they were planned."""
    processor = load_processor(recipe.checkpoint, recipe.model.remote_code)
    collator = collator_for(processor, recipe.images, recipe.model.max_length)
    return RowLengths(collator).rejected(names)


def _free() -> None:
    """Release what the training held on this rank's GPU, for the answers.

    A sharded model could answer only with all ranks in step, a token of the longest answer at a
    time. So every rank loads the checkpoint that was just written, whole and in `model.dtype` (7B
    in bfloat16: 14 GB), and answers its share of the questions as in a run that is not sharded.
    """
    gc.collect()  # trainer, optimizer and model refer to each other
    torch.cuda.empty_cache()


def _peak_memory_mib() -> int:
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib // 1024 if sys.platform != "darwin" else kib // 1024**2


if __name__ == "__main__":
    main(sys.argv[1:])
