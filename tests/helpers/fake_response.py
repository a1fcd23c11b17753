"""Trials, steered weights and final models with them, added to the run directory of `fake_run`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cotbal.data.files import read_json, write_json, write_sealed, write_text
from cotbal.jobs.response import read_response
from cotbal.jobs.rundir import RunDir
from cotbal.response import (
    Response,
    Trials,
    choose_weights,
    freeze,
)
from cotbal.response.coordinates import doublings
from cotbal.response.departure import joint_departure
from helpers.simulated_trials import drawn_effects, trials_of

WRITTEN = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


def add_response(
    files: RunDir, trials: Trials, goals: Sequence[str | Sequence[str]] = ()
) -> Response:
    """Write the table of trials, its design, and for every goal weights and a frozen prediction."""
    write_text(files.trial_table, trials.to_csv())
    units = {task: [task] for task in trials.tasks}
    for task, unit in trials.units.items():
        units.setdefault(unit, []).append(task)
    members = {unit: [t for t in tasks if t in trials.scored] for unit, tasks in units.items()}
    design = {
        "runs": len(trials.seeds),
        "step": 0.75,
        "seeds": [0, 1],
        "fraction": "1/4",
        "lever": "weights" if trials.ratios is None else "ratios",
        "units": members,
    }
    write_json(files.design, design)
    response = read_response(files)
    for goal in goals:
        choice = choose_weights(response, goal)
        name = choice.goal.replace(",", "+")
        content = freeze(response, choice, WRITTEN)
        write_json(files.trial_table.parent / f"prediction-{name}.json", content)
        weights = dict(choice.weights)
        of_tasks = {t: weights[unit] for unit, tasks in members.items() for t in tasks}
        write_sealed(files.steered(name), {"weights": weights, "tasks": of_tasks})
    return response


def noisy_trials(tasks: Sequence[str], seed: int = 3) -> Trials:
    """Trials as a study shows them: own effects of 2 %, noise of 0.8 %, a curvature, and a last
    task whose scores are luck.
    """
    effects = drawn_effects(len(tasks), seed)
    noise = np.full(len(tasks), 0.8)
    noise[-1] = 25.0
    return trials_of(effects, noise=noise, seed=seed, names=tasks)


def grouped_trials(seed: int = 0) -> Trials:
    """Trials of random weights of three units, one of them a group of two tasks, with a hostile
    name and a task that is only evaluated. Slopes and curvature are correlated, unlike in a
    balanced design.
    """
    units = ("captions", "ocr", 'say "hi" </script><!--')
    scored = ("long_captions", "short_captions", "ocr", units[2], "before_tuning \N{SNOWMAN}")
    generator = np.random.default_rng(seed)
    multiples = 2 ** generator.uniform(-1, 1, (20, len(units)))
    weights = multiples / multiples.mean(axis=1, keepdims=True)
    z = doublings(weights)
    effects = generator.normal(0, 1, (len(units), len(scored)))
    effects -= effects.mean(axis=0)
    changes = z @ effects - 0.5 * joint_departure(z)[:, None]
    changes += generator.normal(0, 0.4, changes.shape)
    return Trials(
        tasks=units,
        scored=scored,
        weights=weights,
        scores=0.4 * (1 + changes / 100),
        seeds=("0", "1") * 10,
        units={"long_captions": "captions", "short_captions": "captions"},
    )


def train_steered(
    files: RunDir,
    method: str,
    changes: Mapping[int, float],
    weights: Mapping[str, float],
    by_ratios: bool = False,
) -> None:
    """Final models of a method for training seeds, made from those with equal weights: every test
    score changed by so many percent; `by_ratios`: the weights are sampling ratios.
    """
    of_tasks = {**weights, "chat": 1.0}
    job: dict[str, Any] = {"run": {"name": method}, "weights": of_tasks}
    if by_ratios:
        job["run"]["ratios"] = of_tasks
        job["weights"] = dict.fromkeys(of_tasks, 1.0)
    plan = read_json(files.plan)
    folder = method.replace(":", "-")
    equal = next(run for run in plan["runs"] if run["name"] == "ew")
    for seed, change in changes.items():
        of_seed = files.seeded(seed) if seed else files
        source, target = of_seed.final("ew"), of_seed.final(method)
        for path in (source.root / "scores").glob("*.json"):
            content = read_json(path)
            for entry in content["metrics"].values():
                entry["samples"] = [value * (1 + change / 100) for value in entry["samples"]]
            write_json(target.root / "scores" / path.name, content)
        outcome = json.loads(source.outcome.read_text())
        write_json(target.job, job)
        write_json(target.outcome, {**outcome, "run": method})
        directory = f"seed-{seed}/final/{folder}" if seed else f"final/{folder}"
        plan["runs"].append({**equal, "name": method, "directory": directory, "seed": seed})
    write_json(files.plan, plan)
