"""What packing saves: forward and backward passes over the same micro-batches, padded and packed,
side by side.

    python benchmarks/packing_speed.py recipe.yaml [micro-batches [setting=value ...]]

Micro-batches are drawn from all training records of the recipe, as its trainings draw them. Every
one goes through the model both ways, in turns first padded or first packed, so whatever else the
machine does hits both alike. Only ratios are printed, of processor time and of wall time; collating
is not part of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cotbal.data.batches.collate import Batch, Collator, Row
from cotbal.data.batches.packing import pack
from cotbal.data.files import default_cache
from cotbal.data.reading.records import open_records
from cotbal.loss import predicting
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.training import vlm
from cotbal.training.trainers.forward import valid_token_losses


def main(path: Path, count: int, settings: tuple[str, ...]) -> None:
    recipe = load_recipe(path, settings)
    model, processor = vlm.load(recipe.checkpoint, recipe.model.dtype, recipe.model.remote_code)
    prepared = vlm.prepare(model, recipe.model).train()
    batches = micro_batches(recipe, processor, count + 2)
    length, padding = recipe.model.max_length, processor.tokenizer.pad_token_id
    for batch in batches[:2]:  # memory and code are warm from then on
        seconds(prepared, batch), seconds(prepared, pack(batch, length, padding))
    ratios, places = [], []
    for turn, batch in enumerate(batches[2:]):
        ways = {"padded": batch, "packed": pack(batch, length, padding)}
        order = sorted(ways, reverse=turn % 2 == 0)
        spent = {way: seconds(prepared, ways[way]) for way in order}
        ratios.append(spent["padded"] / spent["packed"])
        places.append(
            [ways[way]["input_ids"].numel() for way in ("padded", "packed")] + [tokens(batch)]
        )
    padded, packed, real = np.sum(places, axis=0)
    print(
        f"{count} micro-batches of {recipe.file.optimization.micro_batch_size} records,"
        f" {real / count:.0f} tokens each"
    )
    print(f"rows of at most {length} tokens")
    print(
        f"padding: {1 - real / padded:.1%} of the places when padded, {1 - real / packed:.1%} when"
        " packed"
    )
    for name, values in zip(("processor time", "wall time"), np.array(ratios).T, strict=True):
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        print(
            f"{name}, padded over packed: median {middle:.3f} (quartiles {low:.3f} to {high:.3f})"
        )


def tokens(batch: Batch) -> int:
    return int(batch["attention_mask"].sum())


def micro_batches(recipe: Recipe, processor: object, count: int) -> list[Batch]:
    """Padded micro-batches of records drawn without replacement from the whole mixture."""
    files = [(open_records(task.train, default_cache()), task) for task in recipe.mixture.tasks]
    places = [(file, i) for file, (records, _) in enumerate(files) for i in range(len(records))]
    size = recipe.file.optimization.micro_batch_size
    drawn = np.random.default_rng(0).permutation(len(places))[: count * size].reshape(count, size)
    collator = Collator(processor, recipe.images, recipe.model.max_length)

    def row(index: int) -> Row:
        records, task = files[places[index][0]]
        return Row(records[places[index][1]], task.name, task.instruction)

    return [collator.training([row(int(index)) for index in batch]) for batch in drawn]


def seconds(model: nn.Module, batch: Batch) -> np.ndarray:
    """Processor and wall time of a forward and a backward pass."""
    clocks: tuple[Callable[[], float], ...] = (time.process_time, time.perf_counter)
    before = [clock() for clock in clocks]
    valid_token_losses(model, batch, predicting(batch["labels"]))[1].mean().backward()
    spent = [clock() - start for clock, start in zip(clocks, before, strict=True)]
    model.zero_grad()
    return np.array(spent)


if __name__ == "__main__":
    torch.manual_seed(0)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 40, tuple(sys.argv[3:]))
