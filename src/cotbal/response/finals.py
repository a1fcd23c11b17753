"""Final models of any trainer, in a table like that of the trials: what came of a prediction."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.errors import ScoresError
from cotbal.response.lever import LEVERS, RATIOS, WEIGHTS, Lever
from cotbal.response.trials import FILE, RATIO, SCORE, SEED, WEIGHT, Trials, read_trials

CHOSEN, EQUAL = "chosen", "equal"  # the two kinds of final models
ROUNDING = 0.01  # relative difference up to which numbers of a table count as those of a kind

PerSeed = Float[np.ndarray, " seed"]


@dataclass(frozen=True)
class Finals:
    """Scores of models with the weights (or sampling ratios) of a prediction, and of models with
    equal ones.

    Attributes:
        seeds: labels of the training seeds, each with a model of either kind.
        changes: task -> relative change of its score in %, one per seed, of the chosen weights
            against equal ones.
    """

    seeds: tuple[str, ...]
    changes: Mapping[str, tuple[float, ...]]


def finals_table(prediction: Mapping[str, Any], file: str, seeds: Sequence[str]) -> str:
    """The table as `read_finals` reads it, with an empty cell for every score.

    Args:
        prediction: from `read_prediction`.
        file: where the chosen weights are.
        seeds: labels of the training seeds, best such as no trial had.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    prefix = RATIO if _lever(prediction) is RATIOS else WEIGHT
    scored = [SCORE + task for task in prediction["predictions"]]
    writer.writerow([FILE, SEED, *(prefix + task for task in prediction["weights"]), *scored])
    files = {EQUAL: "", CHOSEN: file}
    for seed in seeds:
        for kind, numbers in _numbers(prediction).items():
            rounded = [f"{number:.5g}" for number in numbers.tolist()]
            writer.writerow([files[kind], seed, *rounded, *("" for _ in scored)])
    return text.getvalue()


def read_finals(path: Path, prediction: Mapping[str, Any]) -> Finals:
    """Read final models from a table with the columns of `read_trials`: for every seed one row with
    the weights (or ratios) of the prediction, and one with equal ones.

    Args:
        path: the table.
        prediction: from `read_prediction`.

    Raises:
        ScoresError: the table is invalid, see `read_trials`; `other-weights` (a row has neither of
            both), `missing-outcome` (a seed lacks one of both, or the prediction keeps equal
            weights), `repeated-name` (a seed has one twice), `missing-column`, or `not-positive` (a
            score with equal weights is 0).
    """
    if prediction["keep_equal"]:
        raise ScoresError(
            f"{path}: the prediction keeps equal weights, so there is nothing to compare",
            "missing-outcome",
        )
    if path.is_dir():
        raise ScoresError(f"{path}: expected a table; found a directory", "missing-file")
    trials = read_trials(path)
    _need_columns(path, trials, prediction)
    kinds = _kinds(path, trials, prediction)
    pairs = _pairs(path, trials.seeds, kinds, _lever(prediction))
    chosen = trials.scores[[rows[CHOSEN] for rows in pairs.values()]]
    equal = trials.scores[[rows[EQUAL] for rows in pairs.values()]]
    changes = {}
    for j, task in enumerate(trials.scored):
        if task in prediction["predictions"]:
            changes[task] = _changes(path, task, chosen[:, j], equal[:, j])
    return Finals(tuple(pairs), changes)


def _lever(prediction: Mapping[str, Any]) -> Lever:
    return LEVERS[prediction.get("lever", WEIGHTS.name)]


def _numbers(prediction: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Kind of model -> the weights, or sampling ratios, of the tasks; their mean is 1."""
    chosen = np.array(list(prediction["weights"].values()))
    equal = np.ones(len(chosen))
    if "reference" in prediction:
        equal = np.array(list(prediction["reference"].values()))
    kinds = {EQUAL: equal, CHOSEN: chosen * equal}
    return {kind: numbers / numbers.mean() for kind, numbers in kinds.items()}


def _need_columns(path: Path, trials: Trials, prediction: Mapping[str, Any]) -> None:
    """The table has a weight (or a ratio) of the same tasks, and a score that was predicted."""
    lever = _lever(prediction)
    tasks = list(prediction["weights"])
    if set(trials.tasks) != set(tasks) or (trials.ratios is not None) != (lever is RATIOS):
        prefix = WEIGHT if lever is WEIGHTS else RATIO
        raise ScoresError(
            f"{path}: expected the columns {', '.join(prefix + task for task in tasks)}, as the"
            " prediction has them",
            "missing-column",
        )
    if not set(trials.scored) & set(prediction["predictions"]):
        raise ScoresError(
            f"{path}: expected scores of {', '.join(prediction['predictions'])}", "missing-column"
        )


def _kinds(path: Path, trials: Trials, prediction: Mapping[str, Any]) -> list[str]:
    """What the weights, or ratios, of every row are."""
    order = [trials.tasks.index(task) for task in prediction["weights"]]
    numbers = trials.weights if trials.ratios is None else trials.weights * trials.ratios
    with np.errstate(invalid="ignore"):  # where all ratios are 0
        rows = numbers[:, order] / numbers.mean(axis=1, keepdims=True)
    expected = _numbers(prediction)
    kinds = []
    for row, seed in zip(rows, trials.seeds, strict=True):
        distances = {kind: float(np.abs(row / expected[kind] - 1).max()) for kind in expected}
        nearest = min(distances, key=lambda kind: distances[kind])
        if not distances[nearest] <= ROUNDING:
            lever = _lever(prediction).several
            shown = ", ".join(f"{number:.4g}" for number in row.tolist())
            raise ScoresError(
                f"{path}: expected equal {lever} or those of the prediction in every row; found"
                f" {shown} (seed {seed!r}, scaled to the mean 1)",
                "other-weights",
            )
        kinds.append(nearest)
    return kinds


def _pairs(
    path: Path, seeds: Sequence[str], kinds: Sequence[str], lever: Lever
) -> dict[str, dict[str, int]]:
    """Seed -> kind of model -> its row."""
    words = {EQUAL: f"equal {lever.several}", CHOSEN: f"the {lever.several} of the prediction"}
    pairs: dict[str, dict[str, int]] = {}
    for i, (seed, kind) in enumerate(zip(seeds, kinds, strict=True)):
        rows = pairs.setdefault(seed, {})
        if kind in rows:
            raise ScoresError(
                f"{path}: expected one model with {words[kind]} for every seed; found several for"
                f" the seed {seed!r}",
                "repeated-name",
            )
        rows[kind] = i
    for seed, rows in pairs.items():
        for kind in (EQUAL, CHOSEN):
            if kind not in rows:
                raise ScoresError(
                    f"{path}: expected a model with {words[kind]} for the seed {seed!r}",
                    "missing-outcome",
                )
    return pairs


def _changes(path: Path, task: str, chosen: PerSeed, equal: PerSeed) -> tuple[float, ...]:
    """In % of the scores with equal weights."""
    if not (equal > 0).all():
        raise ScoresError(
            f"{path}, {SCORE + task!r}: expected positive scores with equal weights, since changes"
            " are relative; found 0",
            "not-positive",
        )
    changes = 100 * (chosen / equal - 1)
    return tuple(changes.tolist())
