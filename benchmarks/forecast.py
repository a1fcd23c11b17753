"""Do the probes' averaged parameters foretell the final models? After `cotbal balance --keep-checkpoints` and `ablate`.

    cotbal balance RECIPE --keep-checkpoints --out RUN
    cotbal ablate RECIPE --no-precise --out RUN
    python benchmarks/forecast.py RUN

For every final model with fixed weights `w` (EW, CoTBal, the parts of its weights, other temperatures) the parameters
of the full probes are averaged, `sum_t w_t theta_t / sum_t w_t` (linear merging, arXiv 2602.04937), and this forecast
is scored on the validation sets. Its mean relative change against the forecast of EW is set beside that of the trained
model on the test sets. Adapters are merged into the checkpoints, so that averaging these averages what was learnt.
Every forecast is kept in `RUN/forecasts`, and a stopped command goes on there.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cotbal import evaluation, vlm
from cotbal.balance.agreement import rank_correlation
from cotbal.data.collate import Row
from cotbal.data.questions import collator_for
from cotbal.data.records import default_cache, open_records
from cotbal.measure import measure
from cotbal.recipe import Recipe
from cotbal.report.contents import Contents, read_contents
from cotbal.report.models import models_of
from cotbal.rundir import RunPaths, read_json, write_json

EQUAL = "equal"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run directory")
    contents = read_contents(parser.parse_args().run)
    candidates = weights_of(contents)
    forecasts = {name: forecast(contents, name, weights) for name, weights in candidates.items()}
    facts = facts_of(contents, list(candidates))
    tasks = contents.balanced
    print(f"| candidate | {' | '.join(tasks)} | forecast, % | fact, % |")
    print(f"| :-- | {'--: | ' * len(tasks)}--: | --: |")
    change = {name: relative(scores, forecasts[EQUAL]) for name, scores in forecasts.items()}
    fact = {name: relative(scores, facts[EQUAL]) for name, scores in facts.items()}
    for name in candidates:
        cells = [f"{forecasts[name][task]:.3f} / {facts[name][task]:.3f}" for task in tasks]
        print(f"| {name} | {' | '.join(cells)} | {change[name]:+.2f} | {fact[name]:+.2f} |")
    others = [name for name in candidates if name != EQUAL]
    pair = [np.array([[table[name] for name in others]]) for table in (change, fact)]
    print(f"\nSpearman's rank correlation over {len(others)} candidates: {float(rank_correlation(*pair)[0]):.2f}.")


def weights_of(contents: Contents) -> dict[str, dict[str, float]]:
    """Final run with weights that do not change -> task -> weight, EW first."""
    equal = {EQUAL: dict.fromkeys(contents.balanced, 1.0)}
    fixed = {run.name: run.weights for run in contents.finals if run.weights and run.status == "done"}
    return equal | {name: {task: given[task] for task in contents.balanced} for name, given in fixed.items()}


def facts_of(contents: Contents, names: list[str]) -> dict[str, dict[str, float]]:
    """Final run -> task -> its score on the test set, the mean over seeds."""
    assert contents.recipe is not None
    models = models_of(contents)
    return {
        name: {
            task: float(np.mean([cells[task, "test"].metrics[metric].score for cells in models[name].values()]))
            for task, metric in ((task, contents.recipe.mixture[task].metric) for task in contents.balanced)
        }
        for name in names
    }


def relative(scores: Mapping[str, float], base: Mapping[str, float]) -> float:
    """Mean relative change over the tasks, in %."""
    return 100 * float(np.mean([scores[task] / base[task] - 1 for task in base]))


def forecast(contents: Contents, name: str, weights: Mapping[str, float]) -> dict[str, float]:
    """Task -> validation score of the averaged model."""
    kept = contents.directory / "forecasts" / f"{name}.json"
    if not kept.exists():
        assert contents.recipe is not None
        probes = {run.name.removeprefix("full:"): run.paths for run in contents.probes if run.name.startswith("full:")}
        write_json(kept, scores_of_average(contents.recipe, probes, weights))
    found: dict[str, float] = read_json(kept)
    return found


def scores_of_average(recipe: Recipe, probes: Mapping[str, RunPaths], weights: Mapping[str, float]) -> dict[str, float]:
    """Average the probes' checkpoints by the weights of their tasks, answer and score the validation sets."""
    model, processor = average(recipe, probes, weights)
    collator = collator_for(processor, recipe.images, recipe.model.max_length)
    evaluation.set_greedy(model.eval(), collator)
    scores = {}
    for name in weights:
        task = recipe.mixture[name]
        assert task.validation is not None
        records = list(open_records(task.validation, default_cache(), evaluation=True))
        rows = [Row(record, name, task.instruction) for record in records]
        answers = evaluation.generate(model, collator, rows, recipe.file.generation, lambda _: None)
        known = [{"images": list(record.images), "details": dict(record.details)} for record in records]
        scores[name] = measure(task.metric, answers, [record.references for record in records], known).score
    return scores


def average(recipe: Recipe, probes: Mapping[str, RunPaths], weights: Mapping[str, float]) -> tuple[Any, Any]:
    """A model with `sum_t w_t theta_t / sum_t w_t`, and its processor; two models are in memory at a time."""
    total = sum(weights.values())
    model: Any = None
    for task, weight in weights.items():
        other, processor = vlm.load(str(probes[task].checkpoint), "float32", recipe.model.remote_code)
        shares = {key: value * (weight / total) for key, value in other.state_dict().items()}
        if model is None:
            model = other
        else:
            shares = {key: value + model.state_dict()[key] for key, value in shares.items()}
        model.load_state_dict(shares)
    return model, processor


if __name__ == "__main__":
    main()
