"""What it saves to encode every image once: the gradient of a micro-batch and the answers of a
batch, batches included, with and without the features of images that an earlier probe has encoded.

    PYTHONPATH=src python benchmarks/image_features.py recipe.yaml [rounds [micro-batches]]

Two copies of the model take turns at every batch, so that both meet the same load of the machine.
All losses, gradients and answers must be the same, bit for bit. Times are processor times.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from cotbal.data.batches.collate import Row
from cotbal.data.batches.questions import collator_for
from cotbal.data.files import default_cache
from cotbal.data.reading.records import open_records
from cotbal.loss import predicting
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.training import vlm
from cotbal.training.evaluation import Answerer, set_greedy
from cotbal.training.features.images import ImageFeatures
from cotbal.training.trainers.head import ChunkedHead, find_head

BUDGET = 2**30
Step = Callable[[list[Row]], Any]


class Way:
    """A model in training and the same in answering."""

    def __init__(self, recipe: Recipe, features: ImageFeatures) -> None:
        self.model, processor = vlm.load(recipe.checkpoint, recipe.model.dtype, False)
        self.collator = collator_for(processor, recipe.images, recipe.model.max_length)
        self.answerer = Answerer(self.model, self.collator, recipe.file.generation)
        vlm.prepare(self.model, recipe.model).train()
        features.attach(self.model, training=True)
        set_greedy(self.model, self.collator)
        self.head: ChunkedHead | None = None

    def gradient(self, rows: list[Row]) -> list[torch.Tensor]:
        """The losses of a micro-batch, and all gradients."""
        self.model.train()
        batch = self.collator.training(rows)
        self.head = self.head or find_head(self.model, batch)
        self.model.zero_grad()
        factors = torch.ones(int(predicting(batch["labels"]).sum()))
        loss, losses = self.head.loss(self.model, batch, factors)
        loss.backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        return [losses, *(gradient.clone() for gradient in gradients)]

    def answers(self, rows: list[Row]) -> list[str]:
        """The answers to a batch of questions."""
        self.model.eval()
        return self.answerer(rows, lambda _: None)


def batches(recipe: Recipe, split: str, size: int, count: int) -> list[list[Row]]:
    """Batches of all balanced tasks, whose records take turns."""
    columns = []
    for task in recipe.mixture.balanced:
        records = open_records(task.files[split], default_cache(), evaluation=split != "train")
        columns.append([Row(record, task.name, task.instruction) for record in records])
    rows = list(chain.from_iterable(zip(*columns, strict=False)))
    return [rows[i * size : (i + 1) * size] for i in range(count)]


def same(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(one, other, strict=True)
    )


def ratio(plain: Step, cached: Step, work: list[list[Row]], turn: int) -> float:
    """Processor time of `cached` over that of `plain`, which take turns in going first."""
    spent = {plain: 0.0, cached: 0.0}
    for i, rows in enumerate(work):
        results = {}
        for step in (plain, cached) if (i + turn) % 2 else (cached, plain):
            started = time.process_time()
            results[step] = step(rows)
            spent[step] += time.process_time() - started
        assert same(results[plain], results[cached]), "the results differ"
    return spent[cached] / spent[plain]


def main(file: Path, rounds: int, count: int) -> None:
    recipe = load_recipe(file)
    plain, cached = (Way(recipe, ImageFeatures(budget)) for budget in (0, BUDGET))
    size = recipe.file.optimization.micro_batch_size
    asked = recipe.file.generation.batch_size
    trained = batches(recipe, "train", size, count)
    questions = batches(recipe, "validation", asked, max(1, count * size // asked // 2))
    measured = {"gradients": [], "answers": []}
    for turn in range(-1, rounds):  # the first round encodes the images
        shares = {
            "gradients": ratio(plain.gradient, cached.gradient, trained, turn),
            "answers": ratio(plain.answers, cached.answers, questions, turn),
        }
        print(
            turn + 1, "equal", {name: round(value, 3) for name, value in shares.items()}, flush=True
        )
        for name, value in shares.items() if turn >= 0 else ():
            measured[name].append(value)
    for name, ratios in measured.items():
        low, high = min(ratios), max(ratios)
        print(f"{name}: median {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), *map(int, (*sys.argv[2:], "5", "24")[:2]))
