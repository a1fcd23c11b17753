"""Processor time of a training step: cotbal's trainer beside the stock Trainer and TRL's.

    PYTHONPATH=src python benchmarks/training_step.py recipe.yaml   # its model and its records
    PYTHONPATH=src python benchmarks/training_step.py random        # a LLaVA of 51 M parameters

All start from the same weights and get the same batches, which are made before. All tasks weigh 1,
so all trainers minimise the mean loss of the valid tokens of a step: losses and norms of gradients
must agree at every step. They train in turns, in an order that changes. A step is what happens from
the end of an optimizer step to the end of the next; the first one, in which cotbal checks its
weights, does not count. `images known` keeps what the frozen vision tower has computed for the same
images before, as all runs of a recipe but the first do.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoProcessor,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

import cotbal.benchmarks.pocket
from cotbal.data.batches.questions import collator_for
from cotbal.recipe.recipe import load_recipe
from cotbal.training import vlm
from cotbal.training.features.images import ImageFeatures
from cotbal.training.trainers.hf import TASK_IDS, TaskWeightedTrainer
from image_features import batches
from random_llava import TASKS, Size, llava, rows_of, stacked

POCKET = Path(cotbal.benchmarks.pocket.__file__).parent / "base"
BUDGET = 2**30  # bytes of image features
TOLERANCE = 1e-3  # of losses and norms of gradients, over all steps
RANDOM = {  # 1,024 tokens per batch, of which 14 % are labelled
    "51M": Size(
        (0, 0, 0), 576, 1536, 5, 9, 49_152, (192, 4, 112, 14), 4, 192, torch.float32, 0, 0.18, True
    ),
    "tiny": Size(
        (0, 0, 0), 64, 128, 2, 4, 500, (32, 2, 28, 14), 4, 12, torch.float32, 0, 0.5, True
    ),
}
STOCK, TRL = "stock Trainer", "TRL's SFTTrainer"
ENCODED, KNOWN = "cotbal, images encoded", "cotbal, images known"
Batch = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What every trainer gets.

    Attributes:
        processor: that TRL asks for; the batches are made already.
        batches: one per micro-batch, with the tasks of its rows.
        accumulated: micro-batches per optimizer step.
    """

    model: Any
    processor: Any
    tasks: Sequence[str]
    batches: Sequence[Batch]
    accumulated: int
    learning_rate: float

    def common(self, kind: type[TrainingArguments], **more: Any) -> dict[str, Any]:
        """The arguments of a trainer of any kind, with a copy of the model."""
        args = kind(
            output_dir=tempfile.gettempdir(),
            per_device_train_batch_size=1,  # the batches are the rows
            gradient_accumulation_steps=self.accumulated,
            max_steps=len(self.batches) // self.accumulated,
            learning_rate=self.learning_rate,
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            **more,
        )
        numbers = Dataset.from_list([{"number": i} for i in range(len(self.batches))])
        return {"model": copy.deepcopy(self.model), "args": args, "train_dataset": numbers}

    def batch(self, rows: Sequence[dict[str, int]]) -> Batch:
        """The batch that the only row stands for."""
        return dict(self.batches[rows[0]["number"]])

    def plain(self, rows: Sequence[dict[str, int]]) -> Batch:
        """The same without the tasks of its rows."""
        return {name: value for name, value in self.batch(rows).items() if name != TASK_IDS}


class Clock(TrainerCallback):
    """Processor time at the end of every step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.process_time())


@dataclass(frozen=True)
class Result:
    """Seconds per step, and the losses and norms of gradients of all steps."""

    seconds: float
    figures: torch.Tensor


def stock(work: Work) -> Trainer:
    return Trainer(**work.common(TrainingArguments), data_collator=work.plain)


def trl(work: Work) -> Trainer:
    more = {"bf16": False, "gradient_checkpointing": False}  # both are on by default
    skip = {"skip_prepare_dataset": True}
    common = work.common(SFTConfig, dataset_kwargs=skip, **more)
    return SFTTrainer(**common, data_collator=work.plain, processing_class=work.processor)


def weighted(work: Work, features: ImageFeatures | None = None) -> Trainer:
    trainer = TaskWeightedTrainer(
        **work.common(TrainingArguments),
        data_collator=work.batch,
        tasks=work.tasks,
        weighting=dict.fromkeys(work.tasks, 1.0),
    )
    if features is not None:
        features.attach(trainer.model, training=True)
    return trainer


def measured(make: Callable[[], Trainer]) -> Result:
    trainer, clock = make(), Clock()
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(clock)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    figures = torch.tensor([[float(line["loss"]), float(line["grad_norm"])] for line in lines])
    return Result((clock.ends[-1] - clock.ends[0]) / (len(clock.ends) - 1), figures)


def ways_of(work: Work) -> dict[str, Callable[[], Trainer]]:
    """Name of a way -> its trainer."""
    features = ImageFeatures(BUDGET, report=lambda _: None)
    ways: dict[str, Callable[[], Trainer]] = {
        STOCK: lambda: stock(work),
        TRL: lambda: trl(work),
        ENCODED: lambda: weighted(work),
        KNOWN: lambda: weighted(work, features),
    }
    measured(ways[KNOWN])  # encodes the images
    return ways


def difference(results: dict[str, Result]) -> float:
    """The largest relative difference to the stock Trainer, of any loss or norm."""
    expected = results[STOCK].figures
    return max(
        float(((result.figures - expected).abs() / expected).max()) for result in results.values()
    )


def compare(work: Work, rounds: int) -> None:
    ways, seconds = ways_of(work), list[dict[str, float]]()
    for turn in range(rounds):
        names = list(ways)
        names = names[turn % len(names) :] + names[: turn % len(names)]
        results = {name: measured(ways[name]) for name in names}
        largest = difference(results)
        assert largest <= TOLERANCE, f"losses or gradients differ by {largest:.1e}"
        seconds.append({name: result.seconds for name, result in results.items()})
        shown = {name: round(1000 * value) for name, value in seconds[-1].items()}
        print(turn + 1, f"equal to {largest:.0e}", f"load {os.getloadavg()[0]:.1f}", shown)
    print(f"\n| trainer | ms per step | over the {STOCK} | over {TRL} |\n|---|---|---|---|")
    for name in ways:
        middle = 1000 * statistics.median(row[name] for row in seconds)
        quotients = " | ".join(quotient(seconds, name, other) for other in (STOCK, TRL))
        print(f"| {name} | {middle:.0f} | {quotients} |")


def quotient(seconds: Sequence[dict[str, float]], name: str, other: str) -> str:
    """Median and range over the rounds."""
    ratios = [row[name] / row[other] for row in seconds]
    return f"{statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"


def of_recipe(file: Path, steps: int, accumulated: int) -> Work:
    """Batches of all balanced tasks, whose records take turns."""
    recipe = load_recipe(file)
    model, processor = vlm.load(recipe.checkpoint, recipe.model.dtype, False)
    prepared = vlm.prepare(model, recipe.model)
    collator = collator_for(processor, recipe.images, recipe.model.max_length)
    tasks = [task.name for task in recipe.mixture.balanced]
    settings = recipe.file.optimization
    made = []
    for rows in batches(recipe, "train", settings.micro_batch_size, steps * accumulated):
        ids = torch.tensor([tasks.index(row.task) for row in rows])
        made.append({**collator.training(rows), TASK_IDS: ids})
    return Work(prepared, processor, tasks, made, accumulated, settings.learning_rate)


def of_random_weights(size: Size, steps: int, accumulated: int) -> Work:
    tasks, model = list(TASKS), llava(size, "cpu")
    rows = rows_of(size, size.rows * steps * accumulated)
    made = []
    for start in range(0, len(rows), size.rows):
        chosen = rows[start : start + size.rows]
        ids = torch.tensor([tasks.index(row["task"]) for row in chosen])
        fields = stacked(chosen)
        mask = torch.ones_like(fields["input_ids"])
        made.append({**fields, "attention_mask": mask, TASK_IDS: ids})
    processor = AutoProcessor.from_pretrained(POCKET)
    return Work(model, processor, tasks, made, accumulated, 1e-4)


def described(work: Work) -> str:
    labels = torch.cat([batch["labels"].flatten() for batch in work.batches])
    parameters = sum(p.numel() for p in work.model.parameters())
    valid = float((labels >= 0).float().mean())
    shape = " x ".join(map(str, work.batches[0]["input_ids"].shape))
    return (
        f"{parameters / 1e6:.1f} M parameters, micro-batches of {shape} tokens, {valid:.0%} valid"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", help="a recipe, or `random`")
    parser.add_argument("--size", choices=tuple(RANDOM), default="51M", help="of random weights")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=9, help="optimizer steps, the first included")
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches per step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts = (options.steps, options.accumulate)
    if options.what == "random":
        work = of_random_weights(RANDOM[options.size], *counts)
    else:
        work = of_recipe(Path(options.what), *counts)
    print(described(work), flush=True)
    compare(work, options.rounds)


if __name__ == "__main__":
    main()
