"""What a study of steering shows, from its tables alone: see `steering.py`.

A folder of a study holds

    trials-full.csv    trials on all data; trials-cheap.csv: as `cotbal response` plans them by
                       default; trials-ratios.csv and trials-cheap-ratios.csv: sampling ratios at
                       the design points of either, all as `read_trials` reads them
    random.csv         equal weights, then random weights, scored on the validation sets
    prediction-*.json  what `cotbal steer` predicted from trials-full.csv before any final training
    cheap-*.json       the same from trials-cheap.csv
    finals.csv         method, seed and test scores of the final models

Only trials-full.csv, the predictions and finals.csv are required.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float

from cotbal.response import (
    Response,
    Trials,
    choose_weights,
    compare_with_outcomes,
    fit_response,
    read_prediction,
    read_trials,
)
from cotbal.response.coordinates import doublings
from cotbal.response.prediction import Outcome, mean_over_seeds
from cotbal.scores.interval import Interval

BASELINE, MEAN = "ew", "mean"
UPPER = 0.975
SCORE = "score:"
SeedTask = Float[np.ndarray, "seed task"]
Prediction = Mapping[str, Any]


@dataclass(frozen=True)
class Finals:
    """Test scores of final models.

    Attributes:
        tasks: columns of the scores.
        scores: method -> training seed -> score of every task.
    """

    tasks: tuple[str, ...]
    scores: Mapping[str, Mapping[str, Sequence[float]]]

    def changes(self, method: str, other: str = BASELINE) -> SeedTask:
        """Change of every score against `other` with the same seed, in %."""
        seeds = [seed for seed in self.scores[method] if seed in self.scores[other]]
        new = np.array([self.scores[method][seed] for seed in seeds])
        old = np.array([self.scores[other][seed] for seed in seeds])
        return 100 * (new / old - 1)


@dataclass(frozen=True)
class Study:
    """All tables of a study; None or empty where it has none.

    Attributes:
        predictions: goal -> the frozen prediction from the full trials.
        cheap_weights: goal -> task -> weight, chosen from the cheap trials.
    """

    trials: Trials
    finals: Finals
    predictions: Mapping[str, Prediction]
    cheap_weights: Mapping[str, Mapping[str, float]]
    cheap: Trials | None = None
    ratios: Trials | None = None
    cheap_ratios: Trials | None = None
    random: Trials | None = None

    @property
    def both_levers(self) -> Iterator[tuple[Trials, Trials]]:
        """Trials of weights and of sampling ratios at the same design points."""
        for weights, ratios in ((self.trials, self.ratios), (self.cheap, self.cheap_ratios)):
            if weights is not None and ratios is not None:
                yield weights, ratios


@dataclass(frozen=True)
class Steered:
    """What the weights of a goal did, in % of the scores at equal weights.

    Attributes:
        goal: `mean`, or names of tasks separated by commas.
        predicted: change of the goal.
        gain: observed change of the goal, with the interval of its mean over seeds.
        guarded: guarded task -> observed change.
        below: guarded tasks whose mean is below their floor.
        violated: those whose interval is.
    """

    goal: str
    predicted: float
    gain: Interval
    guarded: Mapping[str, Interval]
    below: tuple[str, ...]
    violated: tuple[str, ...]


def read_study(folder: Path) -> Study:
    """The tables of a folder.

    Raises:
        CotbalError: a table is missing or not as expected; a prediction was changed.
    """
    cheap = {
        goal: prediction["weights"] for goal, prediction in _predictions(folder, "cheap").items()
    }
    return Study(
        trials=read_trials(folder / "trials-full.csv"),
        finals=read_finals(folder / "finals.csv"),
        predictions=_predictions(folder, "prediction"),
        cheap_weights=cheap,
        cheap=_optional(folder / "trials-cheap.csv"),
        ratios=_optional(folder / "trials-ratios.csv"),
        cheap_ratios=_optional(folder / "trials-cheap-ratios.csv"),
        random=_optional(folder / "random.csv"),
    )


def _predictions(folder: Path, kind: str) -> dict[str, Prediction]:
    predictions = [read_prediction(path) for path in sorted(folder.glob(f"{kind}-*.json"))]
    return {prediction["goal"]: prediction for prediction in predictions}


def _optional(path: Path) -> Trials | None:
    return read_trials(path) if path.exists() else None


def read_finals(path: Path) -> Finals:
    """The final models of `finals.csv`."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith(SCORE)]
    scores: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        scores.setdefault(row["method"], {})[row["seed"]] = [float(row[name]) for name in names]
    return Finals(tuple(name.removeprefix(SCORE) for name in names), scores)


def method_of(goal: str) -> str:
    """The method that trains with the weights of a goal."""
    return f"steer:{goal.replace(',', '+')}"


def outcomes(study: Study) -> Iterator[tuple[str, Outcome]]:
    """Goal and outcome of every task that has a prediction and test scores, for goals that were
    trained and whose weights are not equal.
    """
    for goal, prediction in study.predictions.items():
        if prediction["keep_equal"] or method_of(goal) not in study.finals.scores:
            continue
        changes = study.finals.changes(method_of(goal))
        columns = {
            task: changes[:, j].tolist()
            for j, task in enumerate(study.finals.tasks)
            if task in prediction["predictions"]
        }
        for outcome in compare_with_outcomes(prediction, columns).outcomes:
            yield goal, outcome


def agreement(pairs: Sequence[tuple[str, Outcome]]) -> dict[str, float]:
    """Over tasks and goals: share of outcomes in their intervals, correlation and rank correlation
    of predicted and observed changes, and the slope of observed on predicted.
    """
    predicted = np.array([outcome.predicted.value for _, outcome in pairs])
    observed = np.array([outcome.observed for _, outcome in pairs])
    return {
        "outcomes": len(pairs),
        "coverage": float(np.mean([outcome.inside for _, outcome in pairs])),
        "correlation": _correlation(predicted, observed),
        "rank correlation": _correlation(_ranks(predicted), _ranks(observed)),
        "slope": float(predicted @ observed / (predicted @ predicted)),
    }


def _correlation(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return values.argsort().argsort().astype(float)


def steered(study: Study, goal: str, method: str | None = None) -> Steered:
    """What the final models of a goal did; with `method`, what those of another method did for it.

    Raises:
        KeyError: no final model of the method.
    """
    prediction, tasks = study.predictions[goal], study.finals.tasks
    changes = study.finals.changes(method or method_of(goal))
    counted = [tasks.index(name) for name in names_of(goal, fit_response(study.trials))]
    floors = {guard["task"]: guard["floor"] for guard in prediction["guards"]}
    guarded = {task: mean_over_seeds(changes[:, tasks.index(task)]) for task in floors}
    return Steered(
        goal=goal,
        predicted=prediction["gain"]["value"],
        gain=mean_over_seeds(changes[:, counted].mean(axis=1)),
        guarded=guarded,
        below=tuple(task for task in floors if guarded[task].value < floors[task]),
        violated=tuple(task for task in floors if guarded[task].high < floors[task]),
    )


def names_of(goal: str, response: Response) -> list[str]:
    """The tasks that a goal is the mean of."""
    return list(response.counted) if goal == MEAN else goal.split(",")


def mean_change(study: Study, method: str, names: Sequence[str]) -> Interval:
    """Change of the mean over these tasks, against equal weights."""
    columns = [study.finals.tasks.index(name) for name in names]
    return mean_over_seeds(study.finals.changes(method)[:, columns].mean(axis=1))


@dataclass(frozen=True)
class BestTrial:
    """The trial with the best measured mean.

    Attributes:
        count: number of trials.
        best: change of the mean against equal weights with the same seed, in %.
        luck: what the best of so many trials exceeds with a probability of 2.5 % if none of them
            is better than equal weights.
    """

    count: int
    best: float
    luck: float


def best_trial(trials: Trials, names: Sequence[str], noise: float) -> BestTrial:
    """The best of the trials whose weights are not equal.

    Args:
        trials: with equal weights in every seed.
        names: tasks whose mean is taken.
        noise: standard deviation of that mean, one run, in %.
    """
    seeds, equal, changes = _against_equal(trials)
    count = int((~equal).sum())
    of_mean = changes[:, [trials.scored.index(name) for name in names]].mean(axis=1)
    equal_runs = equal.sum() / len(set(seeds.tolist()))  # per seed
    deviation = noise * math.sqrt(1 + 1 / equal_runs)
    luck = NormalDist().inv_cdf(UPPER ** (1 / count)) * deviation
    return BestTrial(count, float(of_mean[~equal].max()), luck)


def _against_equal(trials: Trials) -> tuple[np.ndarray, np.ndarray, SeedTask]:
    """Seed and whether weights are equal, by trial, and changes of scores against the mean of the
    trials with equal weights of that seed, in %.
    """
    equal = np.abs(trials.doublings).max(axis=1) < 0.01
    seeds = np.array(trials.seeds)
    changes = np.empty_like(trials.scores)
    for seed in set(trials.seeds):
        base = trials.scores[equal & (seeds == seed)].mean(axis=0)
        changes[seeds == seed] = 100 * (trials.scores[seeds == seed] / base - 1)
    return seeds, equal, changes


def noise_of_mean(response: Response, names: Sequence[str]) -> float:
    """Standard deviation of the mean over these tasks, one run, if their noise is independent."""
    noise = response.noise[[response.scored.index(name) for name in names]]
    return float(np.sqrt((noise**2).sum()) / len(noise))


@dataclass(frozen=True)
class Regret:
    """What is lost by choosing from the cheap trials, predicted from the full ones, in %.

    Attributes:
        full: predicted gain of the weights chosen from the full trials.
        cheap: of those chosen from the cheap ones.
        below: guarded task -> predicted change, where it is below its floor with the latter.
    """

    goal: str
    full: float
    cheap: float
    below: Mapping[str, float]

    @property
    def lost(self) -> float:
        return self.full - self.cheap


def regrets(study: Study) -> list[Regret]:
    """By goal that both kinds of trials have weights for."""
    response = fit_response(study.trials)
    regrets = []
    for goal, prediction in study.predictions.items():
        if goal not in study.cheap_weights:
            continue
        weights = study.cheap_weights[goal]
        full, cheap = (_predicted(response, w) for w in (prediction["weights"], weights))
        names = names_of(goal, response)
        floors = {guard["task"]: guard["floor"] for guard in prediction["guards"]}
        below = {task: cheap[task] for task, floor in floors.items() if cheap[task] < floor}
        gains = [float(np.mean([changes[name] for name in names])) for changes in (full, cheap)]
        regrets.append(Regret(goal, *gains, below))
    return regrets


def _predicted(response: Response, weights: Mapping[str, float]) -> dict[str, float]:
    z = doublings(np.array([weights[task] for task in response.tasks]))
    return dict(zip(response.scored, response.changes(z).tolist(), strict=True))


@dataclass(frozen=True)
class Levers:
    """Sampling ratios minus loss weights at the same design points and seeds.

    Attributes:
        difference: by task, of the score, in % of that at equal weights; mean over pairs.
        of_mean: of the mean over measurable tasks.
        own_effects: task -> own effect of doubling its weight, and of doubling its ratio.
        correlation: of the effects of weights with those of ratios, on scores that are measurable
            with both.
        cross_correlation: the same without effects on a task's own score.
    """

    difference: Mapping[str, Interval]
    of_mean: Interval
    own_effects: Mapping[str, tuple[Interval, Interval]]
    correlation: float
    cross_correlation: float


def levers(weights: Trials, ratios: Trials) -> Levers:
    """Both kinds of trials row by row.

    Raises:
        ValueError: the trials are not of the same design points, seeds and scores.
    """
    alike = weights.doublings.shape == ratios.doublings.shape and weights.scored == ratios.scored
    if (
        not alike
        or weights.seeds != ratios.seeds
        or not np.allclose(weights.doublings, ratios.doublings, atol=0.01)
    ):
        raise ValueError("expected trials of weights and ratios at the same design points")
    _, equal, by_weights = _against_equal(weights)
    _, _, by_ratios = _against_equal(ratios)
    pairs = (by_ratios - by_weights)[~equal]
    first, second = fit_response(weights), fit_response(ratios)
    columns = [weights.scored.index(name) for name in names_of(MEAN, first)]
    both = [task for task in weights.tasks if task in weights.scored]
    luck = {*first.unmeasurable, *second.unmeasurable}
    measurable = [i for i, task in enumerate(weights.scored) if task not in luck]
    effects = [fit.effects[:, measurable] for fit in (first, second)]
    is_cross = [[unit != weights.scored[i] for i in measurable] for unit in weights.tasks]
    return Levers(
        difference={task: mean_over_seeds(pairs[:, i]) for i, task in enumerate(weights.scored)},
        of_mean=mean_over_seeds(pairs[:, columns].mean(axis=1)),
        own_effects={task: (first.slope(task, task), second.slope(task, task)) for task in both},
        correlation=_correlation(*(effect.ravel() for effect in effects)),
        cross_correlation=_correlation(*(effect[is_cross] for effect in effects)),
    )


def headroom_sentence(response: Response) -> str:
    """What weights can do for the mean, from the trials."""
    return choose_weights(response, MEAN).headroom.sentence
