"""Do averaged models predict models of a mixture? After `cotbal compare --keep-checkpoints`.

    cotbal compare RECIPE --methods stl,ew,cotbal --keep-checkpoints --out RUN
    python benchmarks/forecast.py RUN --samples 80
    python benchmarks/forecast.py RUN --samples 80 --experts full

The forecast of a mixture is the model whose parameters are the weighted mean of other models'
(linear merging of experts, arXiv 2602.04937): `sum_t s_t theta_t / sum_t s_t`, where `s_t` is the
weight of task t times its number of training records. The experts are the single-task models, or
with `--experts full` the full probes. Mixtures are those that the run has trained: EW and CoTBal,
and every full probe where these are no experts; forecast and trained model are scored on the same
validation samples. Adapters are merged into the checkpoints, so that averaging these averages what
was learnt. Every score is kept in `RUN/forecasts`, and a stopped command resumes there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cotbal.balance.agreement import rank_correlation
from cotbal.data.batches.collate import Row
from cotbal.data.batches.questions import collator_for
from cotbal.data.files import default_cache, read_json, write_json
from cotbal.data.reading.records import open_records
from cotbal.recipe.recipe import Recipe
from cotbal.report.contents import Contents, RunContents, read_contents
from cotbal.scores.measure import measure
from cotbal.training import evaluation, vlm
from cotbal.weightings import method_label

Shares = Mapping[str, float]
Scores = dict[str, float]
Loaded = tuple[Any, Any]  # model, processor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument(
        "--samples", type=int, default=80, help="validation samples per task, the first ones"
    )
    parser.add_argument(
        "--experts", choices=("solo", "full"), default="solo", help="runs that are averaged"
    )
    given = parser.parse_args()
    contents = read_contents(given.run)
    assert contents.recipe is not None
    runs = contents.of_first_seed(contents.runs)
    kind = f"{given.experts}:"
    experts = {
        run.name.removeprefix(kind): checkpoint(run) for run in runs if run.name.startswith(kind)
    }
    mixtures = [
        run
        for run in runs
        if run.kind == "final" or (run.name.startswith("full:") and kind != "full:")
    ]
    forecasts, facts = {}, {}
    for run in mixtures:
        name, shares = run.name, shares_of(contents, run)
        title = f"{given.experts} merged {name}"
        forecasts[name] = scored(
            contents, given.samples, title, lambda s=shares: average(experts, s)
        )
        facts[name] = scored(
            contents, given.samples, f"trained {name}", lambda r=run: load(checkpoint(r))
        )
    show(contents.balanced, forecasts, facts)


def checkpoint(run: RunContents) -> str:
    """Where the trained model of a run lies."""
    return str(run.paths.checkpoint)


def shares_of(contents: Contents, run: RunContents) -> Scores:
    """Task -> weight times training records of the run."""
    assert contents.recipe is not None
    portions = contents.recipe.file.portions
    sizes = {"mini": portions.mini, "large": portions.large}
    sizes_of_tasks = {}
    for task, portion in run.planned["portions"].items():
        records = len(open_records(contents.recipe.mixture[task].train, default_cache()))
        sizes_of_tasks[task] = run.weights.get(task, 1.0) * records * float(sizes.get(portion, 1))
    return sizes_of_tasks


def scored(contents: Contents, samples: int, name: str, make: Callable[[], Loaded]) -> Scores:
    """Task -> score of a model on the first validation samples, kept on disk."""
    assert contents.recipe is not None
    kept = contents.directory / "forecasts" / f"{name.replace(':', '-')}.{samples}.json"
    if not kept.exists():
        write_json(kept, validation_scores(contents.recipe, *make(), samples))
    scores: Scores = read_json(kept)
    return scores


def average(experts: Mapping[str, str], shares: Shares) -> Loaded:
    """A model with `sum_t s_t theta_t / sum_t s_t`, and its processor; two models are in memory at
    a time.
    """
    total = sum(shares.values())
    model: Any = None
    for task, share in shares.items():
        other, processor = load(experts[task])
        parts = {key: value * (share / total) for key, value in other.state_dict().items()}
        if model is None:
            model = other
        else:
            parts = {key: value + model.state_dict()[key] for key, value in parts.items()}
        model.load_state_dict(parts)
    return model, processor


def load(directory: str) -> Loaded:
    """A checkpoint in float32, and its processor."""
    return vlm.load(directory, "float32", False)


def validation_scores(recipe: Recipe, model: Any, processor: Any, samples: int) -> Scores:
    """Task -> score on its first validation samples."""
    collator = collator_for(processor, recipe.images, recipe.model.max_length)
    evaluation.set_greedy(model.eval(), collator)
    scores = {}
    for task in recipe.mixture.tasks:
        assert task.validation is not None
        records = list(
            islice(open_records(task.validation, default_cache(), evaluation=True), samples)
        )
        rows = [Row(record, task.name, task.instruction) for record in records]
        answerer = evaluation.Answerer(model, collator, recipe.file.generation)
        answers = answerer(rows, lambda _: None)
        known = [
            {"images": list(record.images), "details": dict(record.details)} for record in records
        ]
        scores[task.name] = measure(
            task.metric, answers, [record.references for record in records], known
        ).score
    return scores


def show(
    tasks: tuple[str, ...], forecasts: Mapping[str, Scores], facts: Mapping[str, Scores]
) -> None:
    """Forecast and fact of every mixture, and how far they agree about the order of the
    mixtures."""
    print(f"| mixture (forecast / fact) | {' | '.join(tasks)} |")
    print(f"| :-- | {' | '.join('--:' for _ in tasks)} |")
    for name, foretold in forecasts.items():
        cells = [f"{foretold[task]:.3f} / {facts[name][task]:.3f}" for task in tasks]
        print(f"| {method_label(name)} | {' | '.join(cells)} |")
    agreement = [
        correlation(
            *([scores[task] for scores in by_mixture.values()] for by_mixture in (forecasts, facts))
        )
        for task in tasks
    ]
    print(
        f"| rank correlation over {len(facts)} mixtures |"
        f" {' | '.join(f'{value:.2f}' for value in agreement)} |"
    )


def correlation(first: list[float], second: list[float]) -> float:
    """Spearman's rank correlation."""
    return float(rank_correlation(np.array([first]), np.array([second]))[0])


if __name__ == "__main__":
    main()
