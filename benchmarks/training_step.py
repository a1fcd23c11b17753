"""Processor time of a training step: cotbal's trainer beside the stock Trainer and TRL's.

    PYTHONPATH=src python benchmarks/training_step.py recipe.yaml   # its model and its records
    PYTHONPATH=src python benchmarks/training_step.py random        # a LLaVA of 51 M parameters

All start from the same weights and get the same batches, which are made before. All tasks weigh 1,
so all trainers minimise the mean loss of the valid tokens of a step: losses and norms of gradients
must agree at every step. Each trainer has a thread, and they take turns: one step of each in every
round, in an order that changes. So all meet the same load of the machine. A step is what happens
from the end of an optimizer step to the end of the next; the first one, in which cotbal checks its
weights, does not count. `images known`: what the frozen vision tower computes for these images was
kept before, as for most images in later runs of a recipe.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Semaphore
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoProcessor,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

import cotbal.benchmarks.pocket
from cotbal.data.batches.questions import collator_for
from cotbal.recipe.recipe import load_recipe
from cotbal.training import vlm
from cotbal.training.features.images import ImageFeatures
from cotbal.training.trainers.forward import for_model
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


class Turns(TrainerCallback):
    """Lets a trainer take one step at a time.

    Attributes:
        seconds: processor time of every step.
        figures: loss and norm of the gradient of every step.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.seconds: list[float] = []
        self.figures: list[tuple[float, float]] = []
        self.trainer = trainer
        self._mine, self._yours = Semaphore(0), Semaphore(0)
        self._begun = 0.0
        self._over = self._stopping = False
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self)

    def train(self) -> None:
        """The whole training, in a thread."""
        torch.set_num_threads(1)
        self._begin()
        try:
            self.trainer.train()
        finally:
            self._over = True
            self._yours.release()

    def step(self) -> bool:
        """Let it take a step and wait for it; False if the training has ended instead."""
        self._mine.release()
        self._yours.acquire()
        return not self._over

    def end(self) -> None:
        """Let the training end with the steps that it has taken."""
        self._stopping = True
        self._mine.release()

    def on_step_end(self, _: Any, __: Any, control: TrainerControl, **___: Any) -> None:
        self.seconds.append(time.process_time() - self._begun)
        self._yours.release()
        if not self._stopping:
            self._begin()
        control.should_training_stop = self._stopping

    def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
        if "loss" in logs:
            self.figures.append((float(logs["loss"]), float(logs["grad_norm"])))

    def _begin(self) -> None:
        self._mine.acquire()
        self._begun = time.process_time()


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


def known_features(work: Work) -> ImageFeatures:
    """With what the vision tower computes for all images."""
    features, model = ImageFeatures(BUDGET, report=lambda _: None), copy.deepcopy(work.model)
    features.attach(model, training=True)
    model.train().config.use_cache = False  # as trainers do
    with torch.no_grad():
        for batch in work.batches:
            model(**for_model(batch))
    features.save()
    return features


def trainers_of(work: Work) -> dict[str, Trainer]:
    """Name of a way -> its trainer."""
    return {
        STOCK: stock(work),
        TRL: trl(work),
        ENCODED: weighted(work),
        KNOWN: weighted(work, known_features(work)),
    }


def in_turns(turns: dict[str, Turns], steps: int) -> None:
    """Train all of them, step by step."""
    names = list(turns)
    order = [names[(step + i) % len(names)] for step in range(steps) for i in range(len(names))]
    with ThreadPoolExecutor(len(turns)) as threads:
        trainings = [threads.submit(taken.train) for taken in turns.values()]
        for name in order:
            if not turns[name].step():
                break
        for taken in turns.values():
            taken.end()
    for training in trainings:
        training.result()


def difference(turns: dict[str, Turns]) -> float:
    """The largest relative difference to the stock Trainer, of any loss or norm."""
    expected = torch.tensor(turns[STOCK].figures)
    differences = [torch.tensor(taken.figures) - expected for taken in turns.values()]
    return max(float((change.abs() / expected).max()) for change in differences)


def compare(work: Work) -> None:
    turns = {name: Turns(trainer) for name, trainer in trainers_of(work).items()}
    steps = len(work.batches) // work.accumulated
    in_turns(turns, steps)
    largest = difference(turns)
    assert largest <= TOLERANCE, f"losses or gradients differ by {largest:.1e}"
    print(f"losses and norms of gradients of {steps} steps are equal to {largest:.0e}")
    print(f"\n| trainer | ms per step | over the {STOCK} | over {TRL} |\n|---|---|---|---|")
    for name, taken in turns.items():
        quotients = [quotient(taken.seconds, turns[other].seconds) for other in (STOCK, TRL)]
        middle = 1000 * statistics.median(taken.seconds[1:])
        print(f"| {name} | {middle:.0f} | {' | '.join(quotients)} |")
    print(f"load: {os.getloadavg()}")


def quotient(seconds: Sequence[float], others: Sequence[float]) -> str:
    """Median, and the middle half, of the quotients of all steps but the first."""
    ratios = [mine / other for mine, other in zip(seconds[1:], others[1:], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


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
    tasks, model = list(TASKS), llava(size, "cpu").eval()  # as a checkpoint is loaded
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


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Reads which model is trained, and for how many steps."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", help="a recipe, or `random`")
    parser.add_argument("--size", choices=tuple(RANDOM), default="51M", help="of random weights")
    parser.add_argument("--rounds", type=int, default=20, help="steps that count")
    return parser


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches per step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts = (options.rounds + 1, options.accumulate)
    if options.what == "random":
        work = of_random_weights(RANDOM[options.size], *counts)
    else:
        work = of_recipe(Path(options.what), *counts)
    print(described(work), flush=True)
    compare(work)


if __name__ == "__main__":
    main()
