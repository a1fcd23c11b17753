"""Padding and processor time of an optimizer step whose rows are grouped by length, beside the
shuffled order.

    PYTHONPATH=src python benchmarks/group_by_length.py recipe.yaml          # as the recipe says
    PYTHONPATH=src python benchmarks/group_by_length.py recipe.yaml --batch 128 --micro 32 16
    PYTHONPATH=src python benchmarks/group_by_length.py random --batch 16 --micro 4

The rows of a recipe are those of its final training, in their order. `random`: a LLaVA of 51 M
parameters with rows of 20 to 400 tokens of text, log-normal with median 100. Every way to divide a
step gets the rows of the same steps, and losses and norms of gradients must agree. The ways take
turns as in `training_step.py`, whose trainers these are: cotbal's, with known images. Batches are
made before. Making them is measured as well, for a recipe.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoProcessor

from cotbal.data.batches.collate import Batch, Collator
from cotbal.data.batches.estimated_lengths import EstimatedLengths
from cotbal.data.batches.grouping import GroupedByLength, StepLayout, grouped
from cotbal.data.batches.order import Mixed, Shuffled
from cotbal.data.batches.questions import collator_for
from cotbal.data.files import default_cache
from cotbal.data.reading.records import open_records
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.training import vlm
from cotbal.training.trainers.hf import TASK_IDS
from random_llava import TASKS, llava, rows_of
from training_step import (
    POCKET,
    RANDOM,
    TOLERANCE,
    Turns,
    Work,
    in_turns,
    known_features,
    parser_of,
    quotient,
    weighted,
)

TEXT = (20, 100, 400)  # shortest, median and longest text of random rows, in tokens
SPREAD = 0.6  # of the logarithm of their lengths
Micro = Callable[[Sequence[Any]], Batch]


@dataclass(frozen=True)
class Way:
    """How the rows of a step are divided."""

    layout: StepLayout
    by_length: bool

    @property
    def name(self) -> str:
        order = "grouped by length" if self.by_length else "shuffled"
        return f"{self.layout.micro_batches} x {self.layout.rows} rows, {order}"


def ways_of(batch: int, micro: Sequence[int]) -> list[Way]:
    """The shuffled order and the grouped one of every size; one micro-batch has nothing to group.
    The first way is what the others are compared with.
    """
    ways = []
    for rows in micro:
        layout = StepLayout(rows, 1, batch // rows)
        ways += [Way(layout, by_length) for by_length in (False, True)[: 1 + (rows < batch)]]
    return ways


@dataclass(frozen=True)
class Source:
    """Model and rows.

    Attributes:
        plain: the rows in shuffled order.
        length: tokens of a row of `plain`.
        collate: rows -> a batch with the ids of their tasks.
    """

    model: Any
    processor: Any
    tasks: Sequence[str]
    learning_rate: float
    plain: Sequence[Any]
    length: Callable[[Any], int]
    collate: Micro


def of_recipe(recipe: Recipe) -> Source:
    model, processor = vlm.load(recipe.checkpoint, recipe.model.dtype, False)
    collator = collator_for(processor, recipe.images, recipe.model.max_length)
    tasks = [task.name for task in recipe.mixture.trained]
    optimization = recipe.file.optimization
    estimate = EstimatedLengths(collator)
    return Source(
        vlm.prepare(model, recipe.model),
        processor,
        tasks,
        optimization.learning_rate,
        Shuffled(mixed(recipe), optimization.seed),
        lambda item: estimate(item["row"]),
        lambda items: collated(collator, tasks, items),
    )


def mixed(recipe: Recipe) -> Mixed:
    parts = []
    for task in recipe.mixture.trained:
        records = open_records(task.train, default_cache())
        parts.append((task.name, records, np.arange(len(records)), task.instruction))
    return Mixed(parts)


def collated(collator: Collator, tasks: Sequence[str], items: Sequence[Any]) -> Batch:
    ids = torch.tensor([tasks.index(item["task"]) for item in items])
    return {**collator.training([item["row"] for item in items]), TASK_IDS: ids}


def of_random_weights(size: str, count: int) -> Source:
    """Rows whose text is cut to random lengths, from the front: the labels are at the end."""
    shape = dataclasses.replace(RANDOM[size], text=TEXT[2])
    generator = np.random.default_rng(0)
    drawn = np.exp(generator.normal(np.log(TEXT[1]), SPREAD, count)).clip(TEXT[0], TEXT[2])
    rows = []
    for row, text in zip(rows_of(shape, count), drawn.astype(int).tolist(), strict=True):
        image = len(row["input_ids"]) - TEXT[2]
        kept = [*range(image), *range(len(row["input_ids"]) - text, len(row["input_ids"]))]
        rows.append({**row, "input_ids": row["input_ids"][kept], "labels": row["labels"][kept]})
    return Source(
        llava(shape, "cpu").eval(),
        AutoProcessor.from_pretrained(POCKET),
        list(TASKS),
        1e-4,
        rows,
        lambda row: len(row["input_ids"]),
        padded,
    )


def padded(rows: Sequence[dict[str, Any]]) -> Batch:
    join = torch.nn.utils.rnn.pad_sequence
    ids = [row["input_ids"] for row in rows]
    return {
        "input_ids": join(ids, batch_first=True),
        "labels": join([row["labels"] for row in rows], batch_first=True, padding_value=-100),
        "attention_mask": join([torch.ones_like(row) for row in ids], batch_first=True),
        "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
        TASK_IDS: torch.tensor([list(TASKS).index(row["task"]) for row in rows]),
    }


def divided(source: Source, way: Way, steps: int) -> list[Batch]:
    """The micro-batches of the first steps."""
    made = []
    size = way.layout.size
    for start in range(0, steps * size, size):
        rows = [source.plain[i] for i in range(start, start + size)]
        if way.by_length:
            rows = [rows[i] for i in grouped([*map(source.length, rows)], way.layout)]
        for first in range(0, size, way.layout.rows):
            made.append(source.collate(rows[first : first + way.layout.rows]))
    return made


def padding(batches: Sequence[Batch]) -> float:
    """Fraction of all positions that hold no token."""
    masks = [batch["attention_mask"] for batch in batches]
    return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


def compare(source: Source, ways: Sequence[Way], steps: int) -> None:
    """Print a line of a table for every way."""
    shares, turns = {}, {}
    for way in ways:
        batches = divided(source, way, steps)
        common = (source.model, source.processor, source.tasks, batches)
        work = Work(*common, way.layout.micro_batches, source.learning_rate)
        shares[way.name] = padding(batches)
        turns[way.name] = Turns(weighted(work, known_features(work)))
    in_turns(turns, steps)
    first, *_ = turns.values()
    largest = max(difference(taken, first) for taken in turns.values())
    assert largest <= TOLERANCE, f"losses or gradients differ by {largest:.1e}"
    print(f"losses and norms of gradients of {steps} steps are equal to {largest:.0e}\n")
    print("| rows of a step | padding | ms per step | over the first | over shuffled |")
    print("|---|---|---|---|---|")
    for way in ways:
        mine = turns[way.name].seconds
        shuffled = turns[dataclasses.replace(way, by_length=False).name].seconds
        ratios = f"{quotient(mine, first.seconds)} | {quotient(mine, shuffled)}"
        middle = 1000 * statistics.median(mine[1:])
        print(f"| {way.name} | {shares[way.name]:.1%} | {middle:.0f} | {ratios} |")


def difference(taken: Turns, other: Turns) -> float:
    """The largest relative difference of a loss or a norm of gradients."""
    expected = torch.tensor(other.figures)
    return float(((torch.tensor(taken.figures) - expected).abs() / expected).max())


def compare_making(recipe: Recipe, ways: Sequence[Way], steps: int) -> None:
    """Processor time to make the batches of a step, plain and grouped in turns."""
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    made = {way.name: micro_batches(recipe, way) for way in ways}
    for step in range(steps):
        for way in ways if step % 2 else ways[::-1]:
            begun = time.process_time()
            made[way.name](step)
            seconds[way.name].append(time.process_time() - begun)
    print("\n| batches of a step | ms | over the first |\n|---|---|---|")
    for name, mine in seconds.items():
        middle = 1000 * statistics.median(mine[1:])
        print(f"| {name} | {middle:.1f} | {quotient(mine, seconds[ways[0].name])} |")


def micro_batches(recipe: Recipe, way: Way) -> Callable[[int], None]:
    """Makes the batches of a step as a training does, with a processor of its own."""
    source = of_recipe(recipe)
    rows: Any = source.plain
    if way.by_length:
        rows = GroupedByLength(rows, way.layout, lambda row: source.length({"row": row}))

    def make(step: int) -> None:
        begin = step * way.layout.size
        for first in range(begin, begin + way.layout.size, way.layout.rows):
            source.collate([rows[i] for i in range(first, first + way.layout.rows)])

    return make


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--batch", type=int, default=16, help="rows of a step")
    parser.add_argument("--micro", type=int, nargs="+", default=[16, 8, 4], help="of a micro-batch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ways, steps = ways_of(options.batch, options.micro), options.rounds + 1
    if options.what == "random":
        compare(of_random_weights(options.size, steps * options.batch), ways, steps)
    else:
        recipe = load_recipe(Path(options.what))
        compare(of_recipe(recipe), ways, steps)
        compare_making(recipe, ways, steps)
    print(f"\nload: {os.getloadavg()}")


if __name__ == "__main__":
    main()
