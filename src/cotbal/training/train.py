"""Train the model of a recipe on the portions of a run."""

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

from cotbal.data.batches.collate import Batch, Collator
from cotbal.data.batches.estimated_lengths import EstimatedLengths
from cotbal.data.batches.grouping import GroupedByLength
from cotbal.data.batches.loading import steady
from cotbal.data.batches.order import FILLER, Mixed, Shuffled
from cotbal.data.batches.packing import packed
from cotbal.data.batches.processors import load_processor
from cotbal.data.batches.questions import collator_for
from cotbal.data.files import append_jsonl, read_jsonl, write_jsonl
from cotbal.errors import RunError
from cotbal.loss import IGNORED
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run
from cotbal.training import vlm
from cotbal.training.features.images import ImageFeatures
from cotbal.training.partial_checkpoints import last_complete, mark_complete, step_of
from cotbal.training.ranks import ALONE, Ranks, Stopped
from cotbal.training.run_paths import RunPaths
from cotbal.training.tracking import Tracking
from cotbal.training.trainers.arguments import arguments, layout_to_group, micro_batches
from cotbal.training.trainers.blank_image import with_blank_image
from cotbal.training.trainers.compiled import CompileCallback
from cotbal.training.trainers.hf import TaskWeightedTrainer, with_task_ids
from cotbal.training.trainers.packing_check import ROWS, PackingCheckCallback
from cotbal.training.trainers.sharding import settle_sharding
from cotbal.training.trainers.step import by_task
from cotbal.training.trainers.trained_weights import gather_trained
from cotbal.weightings import build_weighting

Report = Callable[[int, int, float | None], None]  # finished steps, all steps, loss
LOGGED = (
    "loss",
    "learning_rate",
    "grad_norm",
    "task_losses",
    "task_tokens",
    "weights",
    "mean_weight",
    "masked_rows",
)


@dataclass(frozen=True)
class Trained:
    """What a training did.

    Attributes:
        steps: optimizer steps.
        records: seen records, over all epochs.
        tokens: seen valid tokens.
        seconds: of the training loop, over all attempts.
        self_check: see `cotbal.training.trainers.self_check`; None for a single task, or where it
            is not supported (`per_device`, sharded parameters).
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
        report: called with (finished steps, all steps, last loss) after every optimizer step.
        ranks: the processes that share every optimizer step; rank 0 writes.
        stop: called after every optimizer step: whether to save and stop.
        tracking: experiment trackers, if any.
        features: keeps what a frozen vision tower computes; None encodes images at every step.
        identity: names what the training was planned from; it resumes only from partial checkpoints
            of the same.
    """

    report: Report
    ranks: Ranks = ALONE
    stop: Callable[[], bool] = lambda: False
    tracking: Tracking | None = None
    features: ImageFeatures | None = None
    identity: str | None = None


def train(
    recipe: Recipe,
    run: Run,
    rows: Mixed,
    weights: Mapping[str, float] | None,
    paths: RunPaths,
    session: Session,
) -> Trained:
    """Train and write `paths.checkpoint`; resumes from the last partial checkpoint.

    The order of the data, adapters and dropout follow from `run.seed`, so an interrupted run ends
    with the same weights as an uninterrupted one.

    Raises:
        Stopped: `session.stop` returned True on some rank; a partial checkpoint was written.
    """
    set_seed(run.seed)
    ranks = session.ranks
    last = last_complete(paths.partial, session.identity) if ranks.main else None
    resume = ranks.agreed(last)
    log = Log(paths, session, resume)
    # Use leaves its padding in a tokenizer. A training that resumes at its end would lack it.
    unused = load_processor(recipe.checkpoint, recipe.model.remote_code)
    trainer = build_trainer(recipe, run, rows, weights, log)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if log.stopped:
        raise Stopped
    _save(trainer, unused, recipe, paths, ranks)
    return _summary(trainer, round(len(rows) * recipe.file.optimization.epochs), log.lines)


def build_trainer(
    recipe: Recipe, run: Run, rows: Mixed, weights: Mapping[str, float] | None, log: Log
) -> TaskWeightedTrainer:
    """A trainer of the recipe's model on these rows.

    Args:
        log: observes the training; it holds ranks, trackers and features of images.
    """
    model, processor = _load(recipe)
    prepared = vlm.prepare(model, recipe.model)
    tasks = [task.name for task in recipe.mixture.trained]
    files = [part[1] for part in rows.parts]
    plain = collator_for(processor, recipe.images, recipe.model.max_length, files)
    collator = _with_tasks(plain, tasks)
    options = recipe.file.weightings.get(run.weighting)
    ranks = log.ranks.size
    use_cache = {key: value for key, value in vars(model.config).items() if key == "use_cache"}
    args = arguments(recipe, len(rows), log.paths.partial, run.seed, ranks, log.session.tracking)
    trainer = TaskWeightedTrainer(
        model=prepared,
        args=args,
        train_dataset=_ordered(recipe, rows, run.seed, ranks, plain),
        data_collator=collator,
        tasks=tasks,
        weighting=build_weighting(run.weighting, tasks, weights, seed=run.seed, options=options),
        normalizer=recipe.file.optimization.normalizer,
    )
    # The Trainer switches the cache off in the config, with which users generate; our batches
    # switch it off themselves.
    vars(model.config).pop("use_cache", None)
    vars(model.config).update(use_cache)
    settle_sharding(trainer, recipe.model.dtype)
    if (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled) and (example := rows.with_image()):
        trainer.data_collator = collator = with_blank_image(collator, example)
    if recipe.file.optimization.packing:
        padding = processor.tokenizer.pad_token_id
        check = PackingCheckCallback(trainer, collator, rows.spread(ROWS), padding)
        trainer.add_callback(check)
        trainer.data_collator = packed(collator, recipe.model.max_length, padding)
    if recipe.model.compile:
        trainer.add_callback(CompileCallback())
    if log.session.features is not None:
        sharded = trainer.sharded or trainer.is_deepspeed_enabled
        log.session.features.attach(prepared, training=True, sharded=sharded)
    trainer.add_callback(log)  # behind the check, so that nothing is written before it
    trainer.remove_callback(PrinterCallback)  # our log writes the same figures as JSON
    return trainer


def _load(recipe: Recipe) -> tuple[Any, Any]:
    """The model and its processor, as they are to be trained."""
    return vlm.load(recipe.checkpoint, recipe.model.dtype, recipe.model.remote_code, recipe.model)


def _ordered(
    recipe: Recipe, rows: Mixed, seed: int, ranks: int, collator: Collator
) -> Shuffled | GroupedByLength:
    """The rows in the order in which the ranks take them."""
    settings = recipe.file.optimization
    together = micro_batches(settings, ranks)[0] * ranks if ranks > 1 else 1
    shuffled = Shuffled(rows, seed, together, rows.repeats)
    layout = layout_to_group(settings, ranks)
    if layout is None:
        return shuffled
    return GroupedByLength(shuffled, layout, EstimatedLengths(collator))


def _with_tasks(collator: Collator, tasks: Sequence[str]) -> Callable[[list[Any]], Batch]:
    def collate(items: list[Any]) -> Batch:
        batch = collator.training([item["row"] for item in items])
        fillers = torch.tensor([FILLER in item for item in items])
        return {**batch, "labels": batch["labels"].masked_fill(fillers[:, None], IGNORED)}

    return with_task_ids(steady(collate), tasks)


class Log(TrainerCallback):
    """Writes losses and progress to disk, and marks complete partial checkpoints.

    Every partial checkpoint holds the log up to its step, so that a resumed training does not count
    tokens from a file that grows in place and has no digest.

    Attributes:
        lines: of `training.jsonl`, on every rank.
    """

    def __init__(self, paths: RunPaths, session: Session, resume: Path | None) -> None:
        self.paths = paths
        self.resume = resume
        self.session = session
        self.ranks = session.ranks
        self.stopped = False
        self.loss: float | None = None
        self.started = time.monotonic()
        self.lines: list[dict[str, Any]] = []
        self.seconds_before = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Begin with the log of the partial checkpoint."""
        if self.resume is not None:
            self.lines = self._lines_until(self.resume)
        self.seconds_before = self.lines[-1]["seconds"] if self.lines else 0.0
        self.ranks.wait()  # until all have read it
        self._write()
        self.started = time.monotonic()

    def _lines_until(self, checkpoint: Path) -> list[dict[str, Any]]:
        kept = checkpoint / self.paths.training.name
        return [line for line in read_jsonl(kept) if line["step"] <= step_of(checkpoint)]

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Replace the file, in case it was damaged meanwhile."""
        self._write()

    def _write(self) -> None:
        if self.ranks.main:
            write_jsonl(self.paths.training, self.lines)

    def on_step_end(self, _: Any, state: TrainerState, control: TrainerControl, **__: Any) -> None:
        """Report progress; log with every checkpoint and at the end."""
        if self.ranks.main:
            self.session.report(state.global_step, state.max_steps, self.loss)
        if state.global_step < state.max_steps and self.ranks.any(self.session.stop()):
            self.stopped = control.should_save = control.should_training_stop = True
        if control.should_save or state.global_step == state.max_steps:
            control.should_log = True

    def on_log(
        self, _: Any, state: TrainerState, *__: Any, logs: dict[str, Any], **___: Any
    ) -> None:
        """Write a line of `training.jsonl`."""
        if "loss" not in logs:
            return
        self.loss = float(logs["loss"])
        seconds = self.seconds_before + time.monotonic() - self.started
        figures = by_task(logs)
        line = {
            "step": state.global_step,
            "epoch": state.epoch,
            **{key: figures[key] for key in LOGGED if key in figures},
            "seconds": round(seconds, 3),
        }
        self.lines.append(line)
        if self.ranks.main:
            append_jsonl(self.paths.training, line)

    def on_save(self, _: Any, state: TrainerState, *__: Any, **___: Any) -> None:
        """Mark the checkpoint as complete; one without the mark is never read."""
        self.ranks.wait()
        if self.ranks.main:
            checkpoint = self.paths.partial / f"checkpoint-{state.global_step}"
            write_jsonl(checkpoint / self.paths.training.name, self.lines)
            mark_complete(checkpoint, self.session.identity)


def _save(
    trainer: TaskWeightedTrainer, processor: Any, recipe: Recipe, paths: RunPaths, ranks: Ranks
) -> None:
    """Write the checkpoint under another name and rename it, so that it is always complete.

    Raises:
        RunError: a parameter is not finite after the last step.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.sharded or trainer.is_deepspeed_enabled:
        model = _gathered(model, recipe, ranks)
    if trainer.is_deepspeed_enabled:
        trainer.deepspeed.destroy()  # its hooks would keep the model in memory
    if not ranks.main:
        return
    _need_finite(model)
    new = paths.checkpoint.with_name("checkpoint.new")
    for stale in (new, paths.checkpoint):
        if stale.exists():
            shutil.rmtree(stale)
    vlm.save_merged(model, processor, new, recipe.model.dtype)
    new.rename(paths.checkpoint)


def _need_finite(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not parameter.isfinite().all():
            raise RunError(
                f"the training diverged in its last step: expected finite parameters; found others"
                f" in {name}. Lower optimization.learning_rate",
                "diverged",
            )


def _gathered(sharded: nn.Module, recipe: Recipe, ranks: Ranks) -> nn.Module | None:
    """On rank 0 the trained model as in a run that is not sharded, in the memory of its CPU.

    Trained tensors are copied one by one into the base, so there is one copy of the model, and
    frozen parts, tied weights and adapters are as when the training began.
    """
    whole = vlm.prepare(_load(recipe)[0], recipe.model) if ranks.main else None
    gather_trained(sharded, whole)
    return whole


def _summary(
    trainer: TaskWeightedTrainer, records: int, lines: Sequence[Mapping[str, Any]]
) -> Trained:
    return Trained(
        steps=trainer.state.global_step,
        records=records,
        tokens=sum(sum(line["task_tokens"].values()) for line in lines),
        seconds=lines[-1]["seconds"],
        self_check=vars(trainer.self_check) if trainer.self_check else None,
    )
