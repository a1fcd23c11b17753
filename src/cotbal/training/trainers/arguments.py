"""A recipe's optimization as arguments of the Hugging Face Trainer."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import TrainingArguments

from cotbal.data.batches.grouping import StepLayout
from cotbal.data.batches.loading import START, processes
from cotbal.errors import CotbalError
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.schema import Optimization
from cotbal.training.tracking import Tracking
from cotbal.training.trainers.sharding import by_deepspeed

LOG_LINES = 100  # points of a loss curve, about and at most


def micro_batches(settings: Optimization, ranks: int) -> tuple[int, int]:
    """Rows per micro-batch, and micro-batches per step and rank."""
    if settings.batch_size % ranks:
        raise CotbalError(
            f"optimization.batch_size: expected a multiple of the {ranks} ranks of a run; found"
            f" {settings.batch_size}",
            "indivisible-batch",
        )
    share = settings.batch_size // ranks
    possible = range(1, settings.micro_batch_size + 1)
    micro = max(rows for rows in possible if share % rows == 0)
    return micro, share // micro


def layout_to_group(settings: Optimization, ranks: int) -> StepLayout | None:
    """How a step is divided if its rows are to be grouped by length, else None.

    With one micro-batch per rank, all ranks would wait for the longest row all the same. Packed
    rows have no padding, and `per_device` depends on how a step is divided.
    """
    rows, count = micro_batches(settings, ranks)
    useful = count > 1 and rows * ranks > 1
    possible = not settings.packing and settings.normalizer != "per_device"
    if not (settings.group_by_length and useful and possible):
        return None
    return StepLayout(rows, ranks, count)


def arguments(
    recipe: Recipe,
    rows: int,
    directory: Path,
    seed: int,
    ranks: int = 1,
    tracking: Tracking | None = None,
) -> TrainingArguments:
    """The recipe's optimization as arguments of the Trainer.

    Args:
        rows: training records of one epoch.
        directory: for partial checkpoints.

    Raises:
        CotbalError: ranks cannot divide the batch evenly.
    """
    settings = recipe.file.optimization
    workers = processes(recipe.resources.dataloader_workers)
    gpus, deepspeed = torch.cuda.is_available(), by_deepspeed()
    micro, accumulation = micro_batches(settings, ranks)
    steps = math.ceil(rows * settings.epochs / settings.batch_size)
    return TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_ratio,  # a number below 1 is a ratio
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=recipe.model.dtype == "bfloat16" and not deepspeed,  # see `settle_sharding`
        logging_nan_inf_filter=False,  # it would log the mean of earlier losses
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
        # With use_cpu accelerate would leave DeepSpeed out, so gloo alone is set for it.
        use_cpu=not gpus and not deepspeed,
        # A micro-batch of text leaves out the projector. The Trainer would look for such parameters
        # only without gradient checkpointing, which allows it as `use_reentrant` is False.
        ddp_find_unused_parameters=True,
        ddp_backend="gloo" if deepspeed and not gpus else None,
        dataloader_pin_memory=gpus,
        dataloader_num_workers=workers,
        dataloader_multiprocessing_context=START if workers else None,
    )
