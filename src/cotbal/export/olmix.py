"""olmix: the probes as a swarm, `ratios.csv` and `metrics.csv`, for the regression of `olmix fit`.

Format as in the README of github.com/allenai/olmix at commit 0cf8997, read by `load_from_csv`
(`olmix/fit/loaders.py` at f6e1131): one row per run, joined on `run_id`, one column per domain with
shares that sum to 1, and one column per metric, lower is better; `FitConfig`
(`olmix/fit/config.py` at 094a3b3) is the YAML. Every task is a domain. A metric is
`maximum - score`, because olmix minimises and its log-linear law needs numbers that are not
negative; a metric without a maximum has the best score of any run as its maximum.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.balance.probes import replicate_name
from cotbal.data.files import read_json, write_text
from cotbal.errors import CotbalError
from cotbal.export import Guide, Order
from cotbal.export._settings import write_yaml
from cotbal.jobs.sampling import with_sampling
from cotbal.jobs.weigh import matrices_of
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run, drawn
from cotbal.scores.matrix import ScoreMatrix
from cotbal.scores.measure import load_metric

VERSION = "commit 0cf8997"
_MEANING = """\
- A ratio is the task's share of the records of the run; a metric is its maximum minus the score on
  the validation set, lower is better.
- The proposal is a mixture, to be trained by sampling: it is not a set of weights of the loss.
- olmix compares mixtures of one size, but probes also differ in size: a probe on a large portion
  saw more records, which ratios do not express. Read the fit with that in mind.
"""


@dataclass(frozen=True)
class _Row:
    """A probe of one training seed: shares of the tasks, and distances to a perfect score."""

    name: str
    ratios: Mapping[str, float]
    metrics: Mapping[str, float]


def write(order: Order, out: Path) -> Guide:
    """Write `ratios.csv`, `metrics.csv` and `fit.yaml` from the probes of the run directory."""
    if order.weights is not None:
        raise CotbalError(
            "--weights: olmix fits mixtures to scores and reads no weights; leave the option out",
            "unsupported-option",
        )
    recipe, matrices = matrices_of(order.run)
    if recipe.mixture.units != order.recipe.mixture.units:
        raise CotbalError(
            f"--run: {order.run.root} holds probes of other tasks than {order.recipe.path}",
            "other-tasks",
        )
    sizes = read_json(order.run.plan)["sizes"]
    best = _best(recipe, matrices)
    rows = []
    for planned in recipe.probe_runs:
        run = with_sampling(recipe.for_probes, sizes, planned)
        number = recipe.replicate_of(run) or 1
        matrix = matrices[recipe.seeds.index(run.seed) if number == 1 else 0]
        if run.portions and set(matrix.tasks) <= set(run.validation):
            lost = best - matrix.values[matrix.row(replicate_name(run.name, number))]
            rows.append(_row(run, matrix.tasks, lost, sizes))
    write_text(out / "ratios.csv", _table([(row.name, row.ratios) for row in rows]))
    write_text(out / "metrics.csv", _table([(row.name, row.metrics) for row in rows]))
    write_yaml(out / "fit.yaml", _fit(recipe, sizes))
    return Guide(
        f"olmix (format of {VERSION})",
        _shares(rows),
        "olmix fit --config fit.yaml --output-dir fitted",
        _MEANING,
        "- Runs that train on nothing, such as `base`, have no ratios and are left out.",
    )


def _row(
    run: Run,
    tasks: Sequence[str],
    lost: Float[np.ndarray, " task"],
    sizes: Mapping[str, Mapping[str, int]],
) -> _Row:
    metrics = {f"{task}:error": float(value) for task, value in zip(tasks, lost, strict=True)}
    return _Row(f"{run.name}@{run.seed}", _ratios(run, tasks, sizes), metrics)


def _ratios(
    run: Run, tasks: Sequence[str], sizes: Mapping[str, Mapping[str, int]]
) -> dict[str, float]:
    records = drawn(run, sizes)
    counts = {task: records.get(task, 0) for task in tasks}
    total = sum(counts.values())
    return {task: count / total for task, count in counts.items()}


def _best(recipe: Recipe, matrices: Sequence[ScoreMatrix]) -> np.ndarray:
    """The largest score that every task's metric can give; shape [task]."""
    metrics = [recipe.mixture[task].metric for task in matrices[0].tasks]
    maxima = np.array([load_metric(metric).MAXIMUM for metric in metrics], float)
    reached = np.nanmax([matrix.values for matrix in matrices], axis=(0, 1))
    return np.where(np.isfinite(maxima), maxima, reached)


def _table(rows: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run_id", *rows[0][1]])
    for name, values in rows:
        writer.writerow([name, *map(repr, values.values())])
    return text.getvalue()


def _fit(recipe: Recipe, sizes: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """A minimal configuration; sizes are numbers of records, which olmix calls tokens."""
    balanced = recipe.mixture.balanced
    errors: dict[str, list[str]] = {}
    for task in balanced:
        errors.setdefault(task.unit, []).append(f"{task.name}:error")
    return {
        "swarm": {"ratios": "ratios.csv", "metrics": "metrics.csv"},
        "priors": {"token_counts": {task.name: sizes[task.name]["full"] for task in balanced}},
        "eval": {"type": "offline", "tasks": errors},
        "regression": {"type": "log_linear"},
        "proposer": {"type": "exact", "kl_reg": 0.1},
    }


def _shares(rows: Sequence[_Row]) -> str:
    tasks = list(rows[0].ratios)
    header = " | ".join(tasks)
    rule = "|---" * (len(tasks) + 1)
    lines = [f"| run | {header} |", f"{rule}|"]
    for row in rows:
        shares = [f"{share:.3f}" for share in row.ratios.values()]
        lines.append(f"| {row.name} | {' | '.join(shares)} |")
    return "\n".join(lines)
