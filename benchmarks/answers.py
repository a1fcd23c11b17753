"""Processor time of greedy answers: images computed once for all questions on them, against
`generate` with every question and its image. `images known`: also with what the vision tower
computed in an earlier evaluation, as in most later runs of a recipe.

    PYTHONPATH=src python benchmarks/answers.py recipe.yaml checkpoint [rounds [records]]
    PYTHONPATH=src python benchmarks/answers.py --options recipe.yaml checkpoint [rounds [records]]

Every round answers the validation sets of the recipe in all ways, in an order of its own. All
answers must be the same. `generate` one by one answers the first records of every set only; its
time is per answer.

With `--options`, only sets with `exact_match` are answered, by choosing among four options: the
right answer and others of the set. Images and questions that are computed once are compared with a
row per option, and both with generated answers, which may be others.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from cotbal.data.batches.collate import Row
from cotbal.data.files import default_cache
from cotbal.data.reading.records import open_records
from cotbal.recipe.mixture import Task
from cotbal.recipe.recipe import Recipe, load_recipe
from cotbal.scores.measure import measure
from cotbal.training.evaluation import Answerer, answerer
from cotbal.training.features.images import ImageFeatures
from cotbal.training.ranks import ALONE

ALONE_RECORDS = 16  # of every set, answered one by one
PLAIN = 32  # rows in a batch of the plain way
BEFORE = 64  # rows in a batch, with every image computed for every question
BUDGET = 2**30  # bytes of image features
REFERENCE = f"generate, batches of {PLAIN}"
OPTIONS = 4  # of a question
ROW_EACH = "options, a row each"
GENERATED = "shared images, generated"

Sets = Sequence[Sequence[Row]]
Answers = list[list[str]]
Ways = Mapping[str, Callable[[Sets], Answers]]


def main(recipe: Path, checkpoint: str, rounds: int, records: int | None, options: bool) -> None:
    torch.set_num_threads(1)
    loaded = load_recipe(recipe)
    answers = answerer(loaded, checkpoint, ALONE)
    assert isinstance(answers, Answerer)
    assert answers.shared, "this model does not share images"
    tasks = [
        task for task in loaded.mixture.balanced if task.metric == "exact_match" or not options
    ]
    sets = [rows_of(task, records) for task in tasks]
    if options:
        sets = [with_options(rows) for rows in sets]
    print(
        f"{sum(map(len, sets))} questions of {len(sets)} sets on {images(sets)} images", flush=True
    )
    if options:
        every, reference = ways_to_choose(answers), ROW_EACH
    else:
        known = with_known_images(loaded, checkpoint, sets)
        every, reference = ways_of(answers, known), REFERENCE
    measured: list[dict[str, float]] = []
    for turn in range(rounds):
        ways = list(every.items())
        ways = ways[turn % len(ways) :] + ways[: turn % len(ways)]
        seconds, results = {}, {}
        for name, way in ways:
            asked = [rows[:ALONE_RECORDS] for rows in sets] if name.endswith("of 1") else sets
            started = time.process_time()
            results[name] = way(asked)
            spent = time.process_time() - started
            seconds[name] = 1000 * spent / sum(map(len, asked))
        generated = results.pop(GENERATED, None)
        check(results, reference)
        if generated is not None and not turn:
            show_scores({GENERATED: generated, ROW_EACH: results[ROW_EACH]}, sets)
        measured.append(seconds)
        print(turn + 1, {name: round(value, 2) for name, value in seconds.items()}, flush=True)
    show(measured, reference)


def rows_of(task: Task, records: int | None) -> list[Row]:
    file = open_records(task.validation, default_cache(), evaluation=True)
    count = min(len(file), records or len(file))
    return [Row(file[i], task.name, task.instruction) for i in range(count)]


def with_known_images(recipe: Recipe, checkpoint: str, sets: Sets) -> Answerer:
    """The same answers, after an evaluation that has encoded the images."""
    features = ImageFeatures(BUDGET, report=ignore)
    known = answerer(recipe, checkpoint, ALONE, features=features)
    assert isinstance(known, Answerer)
    queued(known, sets)
    return known


def with_options(rows: Sequence[Row]) -> list[Row]:
    """The same questions, each with its answer among frequent other answers, in alphabetical
    order.
    """
    frequent = [text for text, _ in Counter(row.record.references[0] for row in rows).most_common()]
    chosen = []
    for row in rows:
        right = row.record.references[0]
        others = islice((text for text in frequent if text != right), OPTIONS - 1)
        options = tuple(sorted([right, *others]))
        chosen.append(replace(row, record=replace(row.record, options=options), choose="sum"))
    return chosen


def ways_to_choose(answers: Answerer) -> Ways:
    """Name of a way -> what answers sets that way."""
    apart = replace(answers, shared=False)

    def generated(sets: Sets) -> Answers:
        return queued(answers, [[replace(row, choose=None) for row in rows] for rows in sets])

    return {
        ROW_EACH: lambda sets: queued(apart, sets),
        "options, images and questions once": lambda sets: queued(answers, sets),
        GENERATED: generated,
    }


def show_scores(results: Mapping[str, Answers], sets: Sets) -> None:
    """The fraction of right answers of every way."""
    references = [row.record.references for rows in sets for row in rows]
    for name, texts in results.items():
        flat = [text for some in texts for text in some]
        print(f"{name}: {measure('exact_match', flat, references).score:.3f} right")


def images(sets: Sets) -> int:
    return len({row.record.images for rows in sets for row in rows if row.record.images})


def ways_of(answers: Answerer, known: Answerer) -> Ways:
    """Name of a way -> what answers sets that way."""
    size = answers.settings.batch_size
    before = sized(answers, BEFORE, shared=False)
    return {
        "generate, batches of 1": lambda sets: in_order(answers, sets, 1),
        REFERENCE: lambda sets: in_order(answers, sets, PLAIN),
        f"before, batches of {BEFORE}": lambda sets: [before(rows, ignore) for rows in sets],
        f"shared images, batches of {BEFORE}": lambda sets: queued(
            sized(answers, BEFORE, shared=True), sets
        ),
        f"shared images, batches of {size} (recipe)": lambda sets: queued(answers, sets),
        "the same, images known": lambda sets: queued(known, sets),
    }


def sized(answers: Answerer, size: int, shared: bool) -> Answerer:
    settings = answers.settings.model_copy(update={"batch_size": size})
    return replace(answers, settings=settings, shared=shared)


def in_order(answers: Answerer, sets: Sets, size: int) -> Answers:
    """As a script would: the processor and `generate`, in the order of the file."""
    texts = []
    for rows in sets:
        texts.append([])
        for start in range(0, len(rows), size):
            batch = answers.collator.prompts(rows[start : start + size])
            with torch.inference_mode():
                tokens = answers.model.generate(
                    **batch, max_new_tokens=answers.settings.max_new_tokens
                )
            new = tokens[:, batch["input_ids"].shape[1] :]
            decoded = answers.collator.tokenizer.batch_decode(new, skip_special_tokens=True)
            texts[-1] += [text.strip() for text in decoded]
    return texts


def queued(answers: Answerer, sets: Sets) -> Answers:
    """All sets in one queue, as a run answers them."""
    texts = iter(answers([row for rows in sets for row in rows], ignore))
    return [[next(texts) for _ in rows] for rows in sets]


def ignore(answers: object) -> None:
    """No progress is shown."""


def check(results: Mapping[str, Answers], reference: str) -> None:
    expected = results[reference]
    for name, texts in results.items():
        for there, wanted in zip(texts, expected, strict=True):
            assert there == wanted[: len(there)], f"the answers of {name!r} differ"


def show(measured: Sequence[dict[str, float]], reference: str) -> None:
    for name in ways_in_order(measured):
        values = [seconds[name] for seconds in measured]
        ratios = [seconds[name] / seconds[reference] for seconds in measured]
        print(
            f"| {name} | {statistics.median(values):.2f} ms | {statistics.median(ratios):.3f}"
            f" [{min(ratios):.3f}, {max(ratios):.3f}] |"
        )
    print("load:", os.getloadavg())


def ways_in_order(measured: Sequence[dict[str, float]]) -> list[str]:
    slowest = measured[0]
    return sorted(slowest, key=lambda name: -slowest[name])


if __name__ == "__main__":
    given = [argument for argument in sys.argv[1:] if argument != "--options"]
    numbers = [int(number) for number in given[2:]]
    settings = numbers + [5, None][len(numbers) :]
    main(Path(given[0]), given[1], *settings, options=len(given) < len(sys.argv) - 1)
