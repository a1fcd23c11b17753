"""Train the model of a recipe on the portions of a run: one checkpoint, resumable, unweighted
losses logged by task.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, set_seed

from cotbal.data.batches.collate import Batch
from cotbal.data.batches.loading import steady
from cotbal.data.batches.order import FILLER, Mixed, Shuffled
from cotbal.data.batches.packing import packed
from cotbal.data.batches.questions import collator_for
from cotbal.data.files import append_jsonl, read_jsonl, write_jsonl
from cotbal.loss import IGNORED
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run
from cotbal.training import vlm
from cotbal.training.ranks import ALONE, Ranks, Stopped
from cotbal.training.run_paths import RunPaths
from cotbal.training.tracking import Tracking
from cotbal.training.trainers.arguments import arguments
from cotbal.training.trainers.blank_image import with_blank_image
from cotbal.training.trainers.checkpoints import last_complete, mark_complete, step_of
from cotbal.training.trainers.hf import TaskWeightedTrainer, with_task_ids
from cotbal.training.trainers.packing_check import ROWS, PackingCallback, check_packing
from cotbal.training.trainers.sharding import settle_sharding
from cotbal.training.trainers.shards import gather_trained
from cotbal.training.trainers.step import by_task
from cotbal.weightings import build_weighting

Report = Callable[[int, int, float | None], None]  # steps done, steps in all, loss


@dataclass(frozen=True)
class Trained:
    """What a training did.

    Attributes:
        steps: optimizer steps.
        records: records seen, epochs counted.
        tokens: valid tokens seen.
        seconds: of the training loop, over all attempts.
        self_check: see `cotbal.training.trainers.self_check`; None where a run holds a single task,
            or where it cannot be made (`per_device`, sharded parameters).
    """

    steps: int
    records: int
    tokens: int
    seconds: float
    self_check: dict[str, Any] | None


@dataclass(frozen=True)
class Session:
    """How a training is observed and stopped; nothing here changes its result.

    Attributes:
        report: called with (steps done, steps in all, last loss) after every optimizer step.
        ranks: the processes that share every optimizer step; rank 0 writes.
        stop: called after every optimizer step: whether to save and stop.
        tracking: experiment trackers, if any.
    """

    report: Report
    ranks: Ranks = ALONE
    stop: Callable[[], bool] = lambda: False
    tracking: Tracking | None = None


def train(
    recipe: Recipe,
    run: Run,
    rows: Mixed,
    weights: Mapping[str, float] | None,
    paths: RunPaths,
    session: Session,
) -> Trained:
    """Train and write `paths.checkpoint`; resumes from the last partial checkpoint if there is one.

    The order of the data, adapters and dropout follow from `run.seed`, so a run that was
    interrupted ends with the same weights as one that was not.

    Raises:
        Stopped: `session.stop` returned True on some rank; a partial checkpoint of that step is on
            disk.
    """
    set_seed(run.seed)
    ranks = session.ranks
    resume = ranks.agreed(last_complete(paths.partial) if ranks.main else None)
    log = _Log(paths, session, resume)
    trainer, processor = _trainer(recipe, run, rows, weights, log)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if log.stopped:
        raise Stopped
    _save(trainer, processor, recipe, paths, ranks)
    return _summary(trainer, round(len(rows) * recipe.file.optimization.epochs), paths)


def _trainer(
    recipe: Recipe,
    run: Run,
    rows: Mixed,
    weights: Mapping[str, float] | None,
    log: _Log,
) -> tuple[TaskWeightedTrainer, Any]:
    """A trainer of the recipe's model on these rows, and the model's processor."""
    model, processor = vlm.load(
        recipe.checkpoint, recipe.model.dtype, recipe.model.remote_code, recipe.model
    )
    prepared = vlm.prepare(model, recipe.model)
    tasks = [task.name for task in recipe.mixture.tasks]
    padded = _collator(recipe, processor, tasks, rows)
    wanted, padding = recipe.file.optimization, processor.tokenizer.pad_token_id
    ranks = log.ranks.size
    own = {name: value for name, value in vars(model.config).items() if name == "use_cache"}
    settings = arguments(
        recipe, len(rows), log.paths.partial, run.seed, ranks, log.session.tracking
    )
    trainer = TaskWeightedTrainer(
        model=prepared,
        args=settings,
        train_dataset=Shuffled(
            rows, run.seed, settings.per_device_train_batch_size * ranks if ranks > 1 else 1
        ),
        data_collator=padded,
        tasks=tasks,
        weighting=build_weighting(
            run.weighting,
            tasks,
            weights,
            seed=run.seed,
            options=recipe.file.weightings.get(run.weighting),
        ),
        normalizer=wanted.normalizer,
    )
    # The Trainer switches the cache off for good; our batches do so themselves, and users generate
    # with it.
    vars(model.config).pop("use_cache", None)
    vars(model.config).update(own)
    settle_sharding(trainer, recipe.model.dtype)
    if (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled) and (example := rows.with_image()):
        trainer.data_collator = padded = with_blank_image(padded, example)
    if wanted.packing:
        _pack(trainer, padded, recipe.model.max_length, rows.spread(ROWS), padding)
    trainer.add_callback(log)  # behind the check, so that nothing is written before it
    trainer.remove_callback(PrinterCallback)  # our log writes the same figures as JSON
    return trainer, processor


def _pack(
    trainer: TaskWeightedTrainer,
    padded: Callable[[list[Any]], Batch],
    length: int,
    rows: list[Any],
    padding: int,
) -> None:
    """Have the trainer pack its batches, once the model has shown on a few rows that it keeps them
    apart.
    """

    def check(model: nn.Module) -> None:
        with trainer.accelerator.autocast():
            check_packing(model, padded, rows, padding)

    trainer.data_collator = packed(padded, length, padding)
    trainer.add_callback(PackingCallback(check))


def _collator(
    recipe: Recipe, processor: Any, tasks: Sequence[str], rows: Mixed
) -> Callable[[list[Any]], Batch]:
    collator = collator_for(
        processor, recipe.images, recipe.model.max_length, [part[1] for part in rows.parts]
    )

    def collate(items: list[Any]) -> Batch:
        batch = collator.training([item["row"] for item in items])
        fillers = torch.tensor([FILLER in item for item in items])
        return {**batch, "labels": batch["labels"].masked_fill(fillers[:, None], IGNORED)}

    return with_task_ids(steady(collate), tasks)


class _Log(TrainerCallback):
    """Writes losses and progress to disk, and marks partial checkpoints that are whole."""

    def __init__(
        self,
        paths: RunPaths,
        session: Session,
        resume: Path | None,
    ) -> None:
        self.paths = paths
        self.resume = resume
        self.session = session
        self.ranks = session.ranks
        self.stopped = False
        self.loss: float | None = None
        self.started = time.monotonic()
        self.seconds_before = 0.0

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Forget the log lines of steps that will be made again."""
        step = step_of(self.resume) if self.resume else 0
        lines = [line for line in read_jsonl(self.paths.training) if line["step"] <= step]
        self.seconds_before = lines[-1]["seconds"] if lines else 0.0
        self.ranks.wait()  # all have read it
        if self.ranks.main:
            write_jsonl(self.paths.training, lines)
        self.started = time.monotonic()

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Report progress; log with every checkpoint and at the end, so that no step's losses are
        lost.
        """
        if self.ranks.main:
            self.session.report(state.global_step, state.max_steps, self.loss)
        if state.global_step < state.max_steps and self.ranks.any(self.session.stop()):
            self.stopped = control.should_save = control.should_training_stop = True
        if control.should_save or state.global_step == state.max_steps:
            control.should_log = True

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any],
        **_: Any,
    ) -> None:
        """One line of `training.jsonl`."""
        if "loss" not in logs or not self.ranks.main:
            return
        self.loss = float(logs["loss"])
        keys = (
            "loss",
            "learning_rate",
            "grad_norm",
            "task_losses",
            "task_tokens",
            "weights",
            "mean_weight",
            "masked_rows",
        )
        seconds, found = self.seconds_before + time.monotonic() - self.started, by_task(logs)
        line = {
            "step": state.global_step,
            "epoch": state.epoch,
            **{k: found[k] for k in keys if k in found},
        }
        append_jsonl(self.paths.training, {**line, "seconds": round(seconds, 3)})

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Mark the checkpoint that all ranks have written; one without the mark was cut off and is
        not used.
        """
        self.ranks.wait()
        if self.ranks.main:
            mark_complete(self.paths.partial / f"checkpoint-{state.global_step}")


def _save(
    trainer: TaskWeightedTrainer, processor: Any, recipe: Recipe, paths: RunPaths, ranks: Ranks
) -> None:
    """Write the checkpoint beside its place and rename it, so that a checkpoint directory is always
    whole.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.sharded or trainer.is_deepspeed_enabled:
        model = _gathered(model, recipe, ranks)
    if trainer.is_deepspeed_enabled:
        trainer.deepspeed.destroy()  # its hooks would keep the model in memory
    if not ranks.main:
        return
    new = paths.checkpoint.with_name("checkpoint.new")
    for stale in (new, paths.checkpoint):
        if stale.exists():
            shutil.rmtree(stale)
    vlm.save_merged(model, processor, new, recipe.model.dtype)
    new.rename(paths.checkpoint)


def _gathered(sharded: nn.Module, recipe: Recipe, ranks: Ranks) -> nn.Module | None:
    """On rank 0 the trained model as a run that is not sharded would have it, in the memory of its
    CPU.

    It is the base again, into which what was trained is copied tensor by tensor: there is one
    copy of the model, frozen parts, tied weights and adapters are as they were when the training
    began, and saving is the same for both.
    """
    whole = None
    if ranks.main:
        model, _ = vlm.load(
            recipe.checkpoint, recipe.model.dtype, recipe.model.remote_code, recipe.model
        )
        whole = vlm.prepare(model, recipe.model)
    gather_trained(sharded, whole)
    return whole


def _summary(trainer: TaskWeightedTrainer, records: int, paths: RunPaths) -> Trained:
    lines = read_jsonl(paths.training)
    return Trained(
        steps=trainer.state.global_step,
        records=records,
        tokens=sum(sum(line["task_tokens"].values()) for line in lines),
        seconds=lines[-1]["seconds"],
        self_check=vars(trainer.self_check) if trainer.self_check else None,
    )
