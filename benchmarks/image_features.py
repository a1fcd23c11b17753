"""What it saves to encode every image once: training and answers of a probe, with image features
off, with an empty cache, and with the cache that an earlier probe has filled.

    PYTHONPATH=src python benchmarks/image_features.py recipe.yaml [rounds [records]]

Trains on the minis of all balanced tasks and answers `records` of every validation set, in one
process. Every round does it in all three ways, in turns in another order. All weights and answers
must be the same, byte for byte. Times are processor times.
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cotbal.data.batches.collate import Row
from cotbal.data.batches.order import Mixed
from cotbal.data.files import default_cache
from cotbal.data.reading.records import open_records
from cotbal.data.sampling import draw_portions
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.recipe.runs import final_run
from cotbal.training import evaluation
from cotbal.training import train as training
from cotbal.training.features.images import ImageFeatures
from cotbal.training.ranks import ALONE
from cotbal.training.run_paths import RunPaths

BUDGET = 2**30
WAYS = ("off", "first", "later")


@dataclass(frozen=True)
class Work:
    """What every way does."""

    recipe: Recipe
    rows: Mixed
    questions: list[Row]

    @classmethod
    def of(cls, recipe: Recipe, count: int) -> Work:
        parts, questions = [], []
        for task in recipe.mixture.balanced:
            records = open_records(task.train, default_cache())
            portions = draw_portions(np.arange(len(records)), task.name, recipe.file.portions)
            parts.append((task.name, records, portions.of("mini"), task.instruction))
            asked = open_records(task.validation, default_cache(), evaluation=True)[:count]
            questions += [Row(record, task.name, task.instruction) for record in asked]
        return cls(recipe, Mixed(parts), questions)

    def spent(self, folder: Path, features: ImageFeatures) -> tuple[float, float, bytes, list[str]]:
        """Processor time of training and of answers, with their results."""
        paths, run = RunPaths(folder), final_run(self.recipe.mixture, "ew")
        session = training.Session(lambda *_: None, features=features)
        started = time.process_time()
        training.train(self.recipe, run, self.rows, None, paths, session)
        gc.collect()
        trained = time.process_time()
        answer = evaluation.answerer(self.recipe, str(paths.checkpoint), ALONE, features=features)
        answers = answer(self.questions, lambda _: None)
        features.save()
        answered = time.process_time()
        weights = (paths.checkpoint / "model.safetensors").read_bytes()
        return trained - started, answered - trained, weights, answers


def main(file: Path, rounds: int, count: int) -> None:
    work = Work.of(load_recipe(file), count)
    print(len(work.rows), "records trained,", len(work.questions), "answered", flush=True)
    times = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        filled = ImageFeatures(BUDGET, cache=root / "later")
        expected = work.spent(root / "warm-up", filled)[2:]
        for turn in range(rounds):
            for way in WAYS[turn % 3 :] + WAYS[: turn % 3]:
                cache = {"off": None, "first": root / f"cache-{turn}", "later": root / "later"}[way]
                features = ImageFeatures(0 if way == "off" else BUDGET, cache=cache)
                training_time, answering_time, *results = work.spent(
                    root / f"{turn}-{way}", features
                )
                assert tuple(results) == expected, "the results differ"
                times[way].append((training_time, answering_time))
            spent = {way: [round(seconds, 1) for seconds in times[way][-1]] for way in WAYS}
            print(turn + 1, "training and answers, equal:", spent, flush=True)
    for i, what in enumerate(("training", "answers")):
        for way in WAYS[1:]:
            pairs = zip(times[way], times["off"], strict=True)
            ratios = [one[i] / other[i] for one, other in pairs]
            print(
                f"{what}, {way} over off: median {statistics.median(ratios):.3f}"
                f" ({min(ratios):.3f} to {max(ratios):.3f})"
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), *map(int, (*sys.argv[2:], "5", "150")[:2]))
