"""Train the model of a recipe on the portions of a run: one checkpoint, resumable, unweighted losses logged by task."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from cotbal import plugins, vlm
from cotbal.data.collate import Batch, Collator, Row
from cotbal.data.order import FILLER, Shuffled
from cotbal.data.packing import packed
from cotbal.data.records import Records
from cotbal.errors import CotbalError
from cotbal.hosts.packing_check import ROWS, check_packing
from cotbal.hosts.step import by_task
from cotbal.hosts.transformers import TaskWeightedTrainer, with_task_ids
from cotbal.loss import IGNORED
from cotbal.ranks import ALONE, Ranks, Stopped
from cotbal.recipe import Recipe
from cotbal.rundir import RunPaths, append_jsonl, read_jsonl, write_json, write_jsonl
from cotbal.runs import Run
from cotbal.sections import ModelSection, Optimization
from cotbal.tracking import Tracking
from cotbal.weightings import Weighting

Report = Callable[[int, int, float | None], None]  # steps done, steps in all, loss
COMPLETE = "complete"  # marks a partial checkpoint that was written to its end
LOG_LINES = 100  # at most about this many points a loss curve
SEEN = 64  # rows among which those for a check are chosen


Part = tuple[str, Records, np.ndarray, str | None]  # task, its records, places of those that the run sees, instruction


class Mixed(Dataset[dict[str, Any]]):
    """The training rows of a run, task after task.

    Args:
        parts: one a task.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.places = [(part, int(index)) for part, (_, _, indices, _) in enumerate(parts) for index in indices]

    def __len__(self) -> int:
        return len(self.places)

    def spread(self, count: int) -> list[dict[str, Any]]:
        """About `count` rows from all over the run, one with pictures first and one without last, if there are any."""
        seen = [self[int(i)] for i in np.unique(np.linspace(0, len(self) - 1, SEEN).astype(int))]
        seen.sort(key=lambda item: not item["row"].record.images)
        return [seen[int(i)] for i in np.unique(np.linspace(0, len(seen) - 1, count).astype(int))]

    def __getitem__(self, place: int) -> dict[str, Any]:
        part, index = self.places[place]
        task, records, _, instruction = self.parts[part]
        return {"row": Row(records[index], task, instruction), "task": task}


@dataclass(frozen=True)
class Trained:
    """What a training did.

    Attributes:
        steps: optimizer steps.
        records: records seen, epochs counted.
        tokens: valid tokens seen.
        seconds: of the training loop, over all attempts.
        self_check: see `cotbal.hosts.self_check`; None where a run holds a single task, or where it cannot be made
            (`per_device`, sharded parameters).
    """

    steps: int
    records: int
    tokens: int
    seconds: float
    self_check: dict[str, Any] | None


def train(
    recipe: Recipe,
    run: Run,
    rows: Mixed,
    weights: Mapping[str, float] | None,
    paths: RunPaths,
    report: Report,
    ranks: Ranks = ALONE,
    stop: Callable[[], bool] = lambda: False,
    tracking: Tracking | None = None,
) -> Trained:
    """Train and write `paths.checkpoint`; go on from the last partial checkpoint if there is one.

    The order of the data, adapters and dropout follow from `run.seed`, so a run that was interrupted ends with the
    same weights as one that was not.

    Args:
        ranks: the processes that share every optimizer step; rank 0 writes.
        stop: asked after every optimizer step: whether to save and stop.

    Raises:
        Stopped: `stop` said so on some rank, and a partial checkpoint of that step is on disk.
    """
    set_seed(run.seed)
    model, processor = vlm.load(recipe.checkpoint, recipe.model.dtype, recipe.model.remote_code)
    prepared = vlm.prepare(model, recipe.model)
    tasks = [task.name for task in recipe.mixture.tasks]
    padded = _collator(recipe, processor, tasks)
    wanted, padding = recipe.file.optimization, processor.tokenizer.pad_token_id
    resume = ranks.agreed(last_complete(paths.partial) if ranks.main else None)
    log = _Log(paths, report, ranks, stop)
    settings = arguments(wanted, recipe.model, len(rows), paths.partial, run.seed, ranks.size, tracking)
    micro = settings.per_device_train_batch_size
    trainer = TaskWeightedTrainer(
        model=prepared,
        args=settings,
        train_dataset=Shuffled(rows, run.seed, micro * ranks.size if ranks.size > 1 else 1),
        data_collator=packed(padded, recipe.model.max_length, padding) if wanted.packing else padded,
        tasks=tasks,
        weighting=_weighting(recipe, run, tasks, weights),
        normalizer=wanted.normalizer,
        callbacks=[log],
    )
    trainer.remove_callback(PrinterCallback)  # our log writes the same figures as JSON
    if wanted.packing:
        with trainer.accelerator.autocast():
            check_packing(trainer.model, padded, rows.spread(ROWS), padding)
    log.begin(resume)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if log.stopped:
        raise Stopped
    if ranks.main:
        _save(trainer, processor, recipe.model, paths)
    return _summary(trainer, round(len(rows) * wanted.epochs), paths)


def _collator(recipe: Recipe, processor: Any, tasks: Sequence[str]) -> Callable[[list[Any]], Batch]:
    collator = Collator(processor, recipe.images, recipe.model.max_length)

    def collate(items: list[Any]) -> Batch:
        batch = collator.training([item["row"] for item in items])
        fillers = torch.tensor([FILLER in item for item in items])
        return {**batch, "labels": batch["labels"].masked_fill(fillers[:, None], IGNORED)}

    return with_task_ids(collate, tasks)


def _weighting(recipe: Recipe, run: Run, tasks: Sequence[str], weights: Mapping[str, float] | None) -> Weighting:
    options = recipe.file.weightings.get(run.weighting, {})
    found: Weighting = plugins.load("cotbal.weightings", run.weighting).build(tasks, weights, seed=run.seed, **options)
    return found


def arguments(
    settings: Optimization,
    model: ModelSection,
    rows: int,
    directory: Path,
    seed: int,
    ranks: int = 1,
    tracking: Tracking | None = None,
) -> TrainingArguments:
    """The recipe's optimization in the words of the Trainer; the global batch is the same on any number of ranks.

    Raises:
        CotbalError: the batch cannot be shared out evenly.
    """
    if settings.batch_size % ranks:
        raise CotbalError(
            f"optimization.batch_size: expected a multiple of the {ranks} ranks of a run; found {settings.batch_size}"
        )
    share = settings.batch_size // ranks
    micro = max(n for n in range(1, settings.micro_batch_size + 1) if share % n == 0)
    steps = math.ceil(rows * settings.epochs / settings.batch_size)
    return TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=share // micro,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_ratio,  # a number below 1 is a ratio
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=model.dtype == "bfloat16",
        logging_steps=max(1, steps // LOG_LINES),
        save_strategy="steps",
        save_steps=settings.checkpoint_steps,
        save_total_limit=2,
        seed=seed,
        data_seed=seed,
        train_sampling_strategy="sequential",  # the rows come shuffled
        remove_unused_columns=False,
        **(tracking.arguments if tracking else {"report_to": "none"}),
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )


class _Log(TrainerCallback):
    """Writes losses and progress to disk, and marks partial checkpoints that are whole."""

    def __init__(self, paths: RunPaths, report: Report, ranks: Ranks, stop: Callable[[], bool]) -> None:
        self.paths = paths
        self.report = report
        self.ranks = ranks
        self.stop = stop
        self.stopped = False
        self.loss: float | None = None
        self.started = time.monotonic()
        self.seconds_before = 0.0

    def begin(self, resume: Path | None) -> None:
        """Forget the log lines of steps that will be made again."""
        step = _step(resume) if resume else 0
        lines = [line for line in read_jsonl(self.paths.training) if line["step"] <= step]
        self.seconds_before = lines[-1]["seconds"] if lines else 0.0
        self.ranks.wait()  # all have read it
        if self.ranks.main:
            write_jsonl(self.paths.training, lines)
        self.started = time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Report progress; log with every checkpoint and at the end, so that no step's losses are lost."""
        if self.ranks.main:
            self.report(state.global_step, state.max_steps, self.loss)
        if state.global_step < state.max_steps and self.ranks.any(self.stop()):
            self.stopped = control.should_save = control.should_training_stop = True
        if control.should_save or state.global_step == state.max_steps:
            control.should_log = True

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any) -> None:
        """One line of `training.jsonl`."""
        if "loss" not in logs or not self.ranks.main:
            return
        self.loss = float(logs["loss"])
        keys = (
            "loss", "learning_rate", "grad_norm", "task_losses", "task_tokens", "weights", "mean_weight", "masked_rows",
        )  # fmt: skip
        seconds, found = self.seconds_before + time.monotonic() - self.started, by_task(logs)
        line = {"step": state.global_step, "epoch": state.epoch, **{k: found[k] for k in keys if k in found}}
        append_jsonl(self.paths.training, {**line, "seconds": round(seconds, 3)})

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Mark the checkpoint that all ranks have written; one without the mark was cut off and is not used."""
        self.ranks.wait()
        if self.ranks.main:
            self._mark(state)

    def _mark(self, state: TrainerState) -> None:
        write_json(self.paths.partial / f"checkpoint-{state.global_step}" / COMPLETE, {"step": state.global_step})


def last_complete(directory: Path) -> Path | None:
    """The newest partial checkpoint that was written to its end; those cut off are removed."""
    whole = []
    for checkpoint in directory.glob("checkpoint-*"):
        if (checkpoint / COMPLETE).exists():
            whole.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(whole, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _save(trainer: TaskWeightedTrainer, processor: Any, settings: ModelSection, paths: RunPaths) -> None:
    """Write the checkpoint beside its place and rename it, so that a checkpoint directory is always whole."""
    new = paths.checkpoint.with_name("checkpoint.new")
    for stale in (new, paths.checkpoint):
        if stale.exists():
            shutil.rmtree(stale)
    model = trainer.accelerator.unwrap_model(trainer.model)
    vlm.save_merged(model, processor, new, settings.dtype)
    new.rename(paths.checkpoint)


def _summary(trainer: TaskWeightedTrainer, records: int, paths: RunPaths) -> Trained:
    lines = read_jsonl(paths.training)
    return Trained(
        steps=trainer.state.global_step,
        records=records,
        tokens=sum(sum(line["task_tokens"].values()) for line in lines),
        seconds=lines[-1]["seconds"],
        self_check=vars(trainer.self_check) if trainer.self_check else None,
    )
