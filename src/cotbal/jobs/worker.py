"""`python -m cotbal.jobs.worker JOB`: one run = train, then answer and score. Everything it needs
is in the job file.
"""

from __future__ import annotations

import gc
import importlib.metadata
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cotbal.data.batches.collate import Row
from cotbal.data.batches.order import Mixed, Part
from cotbal.data.batches.repeats import repeats
from cotbal.data.files import (
    default_cache,
    read_json,
    read_sealed_rows,
    remove_leftovers,
    write_sealed,
)
from cotbal.data.reading.image_states import ImageStates
from cotbal.data.reading.records import open_records
from cotbal.data.sampling import read_manifest
from cotbal.errors import RunError
from cotbal.jobs.checkpoint_files import checkpoint_digest, checkpoint_state
from cotbal.jobs.entry import Progress, job_begun
from cotbal.jobs.evaluation_sets import (
    EvaluationSet,
    answering_checkpoint,
    evaluation_sets,
    known_answers,
    questions,
    recipe_and_run,
)
from cotbal.jobs.inputs import identity_digest
from cotbal.jobs.kept_answers import KeptAnswers, Key
from cotbal.jobs.losses import digest_of_losses
from cotbal.jobs.rundir import RunDir
from cotbal.jobs.scoring import write_scores
from cotbal.jobs.shares import OfferedShares, write_offer
from cotbal.jobs.unchanged import Used, need_unchanged
from cotbal.recipe.mixture import TRAIN
from cotbal.recipe.ratios import allotted
from cotbal.training import evaluation
from cotbal.training import train as training
from cotbal.training.features.images import ImageFeatures, image_features
from cotbal.training.memory import peak_process_mib
from cotbal.training.ranks import Ranks, Stopped
from cotbal.training.run_paths import RunPaths
from cotbal.training.tracking import Tracking, reporting

# Estimated share of the training in the time of a run, for the progress display.
TRAINING_SHARE = 0.75
OFFERED = 2  # batches of questions, from which on other processes may help to answer
DAMAGED = {"digest": ""}  # as no checkpoint has it


@dataclass
class _Queue:
    """Questions of sets that are being answered.

    Attributes:
        known: those with an answer when the run was started, by index.
        total: questions of the run, also of sets that are answered.
        shares: what is offered to other processes.
        given: answers of this process and of the other ranks, as far as they keep pace.
    """

    keys: Sequence[Key]
    rows: Sequence[Row]
    kept: KeptAnswers
    known: Mapping[int, str]
    total: int
    shares: OfferedShares | None = None
    given: int = 0

    @property
    def done(self) -> int:
        """Answers so far, also of other processes."""
        others = round(self.shares.others * self.missing) if self.shares else 0
        return min(self.total - self.missing + self.given + others, self.total)

    @property
    def missing(self) -> int:
        """Questions without an answer when the run was started."""
        return len(self.keys) - len(self.known)


def main(arguments: Sequence[str]) -> None:
    """Execute the run of the job file; skip what is already on disk.

    A launcher starts this on several ranks; the first holds the lock and writes.
    """
    file = Path(arguments[0])
    paths = RunPaths(file.parent)
    with job_begun(paths) as (ranks, stop):
        # Read under the lock: while this waited, a command may have archived the run.
        if not ranks.agreed(file.exists()):
            sys.exit(f"{file}: there is no such job any more")
        job = ranks.agreed(read_json(file) if ranks.main else {})
        if not ranks.agreed(paths.done):
            _Execution(job, paths, ranks, stop).execute()


class _Execution:
    """One run on one rank."""

    def __init__(
        self, job: dict[str, Any], paths: RunPaths, ranks: Ranks, stop: Callable[[], bool]
    ) -> None:
        self.job, self.paths, self.ranks, self.stop = job, paths, ranks, stop
        self.recipe, self.run = recipe_and_run(job, paths.job)
        self.root = RunDir(Path(job["root"]))
        self.progress = Progress(paths.progress, ranks)
        self.share = TRAINING_SHARE if self.run.portions else 0.0

    def execute(self) -> None:
        """Train, answer, score, and write the outcome last."""
        started = time.monotonic()
        ranks, paths = self.ranks, self.paths
        if ranks.main:
            # An earlier worker may outlive its driver, and end after the next one has tidied up.
            remove_leftovers(paths.root)
        self.progress.write("loading", 0, 1, 0.0)
        is_trained = ranks.agreed(ranks.main and self._is_trained())
        parts = [] if is_trained else self._parts()
        sets = evaluation_sets(self.recipe, self.run)
        self._need_unchanged(parts, sets)
        self.features = self._image_features(parts, sets)
        if not is_trained:
            trained = self._train(parts)
            if ranks.main:
                checkpoint = checkpoint_state(paths.checkpoint) if self.run.portions else None
                facts = {"checkpoint": checkpoint, "losses": digest_of_losses(paths)}
                write_sealed(paths.trained, {**vars(trained), **facts})
            ranks.wait()
            _free()
        if ranks.main:  # also if the run was killed here before
            shutil.rmtree(paths.partial, ignore_errors=True)
        generating = self._evaluate(sets)
        self.features.save()
        if not ranks.main:
            return
        if not self.job["keep_checkpoint"]:
            shutil.rmtree(paths.checkpoint, ignore_errors=True)
        self.progress.write("scoring", 1, 1, 1.0)
        write_sealed(paths.outcome, self._outcome(generating, time.monotonic() - started))

    def _is_trained(self) -> bool:
        """Whether the trained model is there as it was written; otherwise it and what may have been
        made with it are removed.
        """
        paths = self.paths
        if paths.trained.exists():
            if self._has_its_model():
                return True
            print(f"{paths.checkpoint}: not as it was written; training again")
        # Facts of the training go last: a run that is killed here comes back here.
        for folder in ("answers", "generations", "scores", "checkpoint"):
            if (paths.root / folder).exists():
                shutil.rmtree(paths.root / folder)
        paths.trained.unlink(missing_ok=True)
        return False

    def _has_its_model(self) -> bool:
        """Whether the model is the one that was trained, or has answered everything."""
        paths = self.paths
        try:
            written = read_json(paths.trained).get("checkpoint")
        except RunError:
            written = DAMAGED
        if written is None or written["digest"] == checkpoint_digest(str(paths.checkpoint)):
            return True
        return written != DAMAGED and self._needs_no_model()

    def _needs_no_model(self) -> bool:
        """Whether the model has answered everything, and is not kept: it may be deleted already."""
        return not self.job["keep_checkpoint"] and all(
            map(self._is_answered, evaluation_sets(self.recipe, self.run))
        )

    def _is_answered(self, answered: EvaluationSet) -> bool:
        """Whether every record has its answer on disk; damaged answers are removed."""
        path = self.paths.generations(answered.task.name, answered.split)
        if not path.exists():
            return False
        try:
            if len(read_sealed_rows(path)) == answered.size:
                return True
        except RunError as error:
            print(error)
        print(f"{path}: answering again")
        for file in (path, self.paths.scores(answered.task.name, answered.split)):
            file.unlink(missing_ok=True)
        return False

    def _need_unchanged(self, parts: Sequence[Part], sets: Sequence[EvaluationSet]) -> None:
        used = [Used(name, TRAIN, records, seen) for name, records, seen, _ in parts]
        used += [s.used for s in sets]
        file = self.recipe.file
        images = ImageStates(self.recipe.images, self.root.images, file.digest_images)
        need_unchanged(self.job, self.recipe, self.run, used, images)

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
            "peak_memory_mib": peak_process_mib(),
            "checkpoint": trained["checkpoint"] if self.job["keep_checkpoint"] else None,
            "losses": trained["losses"],
            "ranks": self.ranks.size,
            "threads": torch.get_num_threads(),
            "versions": {name: importlib.metadata.version(name) for name in packages},
        }

    def _train(self, parts: list[Part]) -> training.Trained:
        """Train on the portions of the run; a run without any is the base checkpoint as it is."""
        if not self.run.portions:
            return training.Trained(steps=0, records=0, tokens=0, seconds=0.0, self_check=None)
        tracking = None
        if self.job.get("tracking") and self.ranks.main:
            tracking = Tracking(**self.job["tracking"])
        session = training.Session(
            self._report_step,
            self.ranks,
            self.stop,
            tracking,
            self.features,
            identity_digest(self.job["identity"]),
        )
        rows, weights = self._rows(parts), self.job["weights"]
        with reporting(tracking, self.paths.root):
            return training.train(self.recipe, self.run, rows, weights, self.paths, session)

    def _report_step(self, done: int, total: int, loss: float | None) -> None:
        self.progress.write("training", done, total, self.share * done / total, loss=loss)

    def _rows(self, parts: list[Part]) -> Mixed:
        if self.run.sampled is None:
            return Mixed(parts)
        sizes = {task: len(indices) for task, _, indices, _ in parts}
        return Mixed(parts, repeats(sizes, allotted(self.run.sampled, sizes), self.run.seed))

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

    def _image_features(
        self, parts: Sequence[Part], sets: Sequence[EvaluationSet]
    ) -> ImageFeatures:
        names: set[str] = set()
        for _, records, indices, _ in parts:
            names.update(records.image_names(indices))
        for s in sets:
            names.update(s.used.records.image_names(s.used.indices))
        return image_features(self.recipe, len(names), self.ranks)

    def _evaluate(self, sets: Sequence[EvaluationSet]) -> float:
        """Answer and score every evaluation set that is not answered yet; seconds it took."""
        started = time.monotonic()
        there = self.ranks.agreed([self.ranks.main and self._is_answered(s) for s in sets])
        waiting = [s for s, answered in zip(sets, there, strict=True) if not answered]
        if waiting:
            self._answer(waiting, sum(s.size for s in sets))
        if self.ranks.main:
            for s in sets:
                metrics = s.task.metrics_of(s.split)
                write_scores(self.paths, s.task.name, s.split, metrics)
        return time.monotonic() - started

    def _answer(self, sets: Sequence[EvaluationSet], total: int) -> None:
        """Answer these sets and keep the answers; `total` is the number of records of all sets.

        The sets share a queue, because questions on one image may be in several of them.
        """
        kept = KeptAnswers(self.paths.answers)
        answers = self.ranks.agreed(kept.read() if self.ranks.main else {})
        rows = questions(sets)
        known = known_answers(rows, answers)
        queue = _Queue(list(rows), list(rows.values()), kept, known, total)
        with self._shares(sets, queue) as shares:
            queue.shares = shares
            answer = evaluation.answerer(
                self.recipe,
                answering_checkpoint(self.recipe, self.run, self.paths),
                self.ranks,
                features=self.features,
                queue=shares,
            )
            texts = answer(queue.rows, partial(self._report_answers, queue), known)
        answers |= zip(queue.keys, texts, strict=True)
        if self.ranks.main:  # a set that is not written after a kill must not be a queue of its own
            kept.add(answers)
            kept.write()
        for s in sets if self.ranks.main else ():
            texts = [answers[s.name, i] for i in range(s.size)]
            evaluation.write_generations(self.paths, s.task.name, s.split, s.records, texts)
        if self.ranks.main:
            kept.remove()

    def _shares(
        self, sets: Sequence[EvaluationSet], queue: _Queue
    ) -> AbstractContextManager[OfferedShares | None]:
        """Shares that processes without a run may take; None where the run answers alone."""
        alone = (
            self.ranks.size > 1
            or torch.cuda.is_available()
            or self.recipe.resources.dataloader_workers
            or sys.platform == "win32"  # which has other locks
        )
        if alone or queue.missing < OFFERED * self.recipe.file.generation.batch_size:
            return nullcontext()
        names, images = [s.name for s in sets], self.features.images
        attempt = queue.kept.attempt
        write_offer(self.paths.queue, attempt, queue.keys, queue.known, sets=names, images=images)
        return closing(
            OfferedShares(
                self.paths.queue, attempt, queue.keys, partial(self._need_no_stop, queue.kept)
            )
        )

    def _report_answers(self, queue: _Queue, answers: Mapping[int, str]) -> None:
        """Keep these answers, and report progress.

        Raises:
            Stopped: the run was asked to stop; the answers so far are on disk.
        """
        by_key = {queue.keys[i]: text for i, text in answers.items()}
        queue.kept.add(by_key)
        self._need_no_stop(queue.kept)
        queue.given += self.ranks.size * len(answers)
        done, total = queue.done, queue.total
        fraction = self.share + (1 - self.share) * done / max(total, 1)
        task = queue.rows[next(iter(answers))].task
        self.progress.write("generating", done, total, fraction, detail=task)

    def _need_no_stop(self, kept: KeptAnswers) -> None:
        if self.stop():
            kept.write()
            raise Stopped


def _free() -> None:
    """Release what the training held on this rank's GPU, for the answers.

    A sharded model could answer only with all ranks in step, a token of the longest answer at a
    time. So every rank loads the checkpoint that was just written, whole and in `model.dtype` (7B
    in bfloat16: 14 GB), and answers its share of the questions as in a run that is not sharded.
    """
    gc.collect()  # trainer, optimizer and model refer to each other
    torch.cuda.empty_cache()


if __name__ == "__main__":
    main(sys.argv[1:])
